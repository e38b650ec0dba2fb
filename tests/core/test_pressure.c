/* Is memory short? What the kernel says, and how it is read. */
#include "reclaim/pressure.h"
#include "support.h"

static void write_total(const char *path, unsigned long long us)
{
    FILE *f = fopen(path, "w");
    fprintf(f, "some avg10=0.00 avg60=0.00 avg300=0.00 total=%llu\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n", us);
    fclose(f);
}

/* Reading the kernel's form; what it says here is not for a test to decide. */
static void pressure(void)
{
    const char *path = new_path("pressure");
    struct fst_pressure p;
    write_total(path, 1000);
    fst_pressure_open_path(&p, path);
    REQUIRE(p.path[0]);
    CHECK(!fst_pressure_high(&p));
    write_total(path, 3601000000ull); /* an hour of waiting since just now */
    CHECK(fst_pressure_high(&p));
    CHECK(!fst_pressure_high(&p));
    FILE *f = fopen(path, "w");
    fprintf(f, "nothing of the kind\n");
    fclose(f);
    fst_pressure_open_path(&p, path);
    CHECK(!p.path[0] && !fst_pressure_high(&p));
    unlink(path);
    fst_pressure_open_path(&p, path);
    CHECK(!p.path[0]);
    fst_pressure_open(&p);
    CHECK(p.path[0] || access("/proc/pressure/memory", R_OK) != 0);
}

TEST_MAIN(CASE(pressure))
