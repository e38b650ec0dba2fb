/* Every word of an arena overwritten, one at a time: check() names what was hit, and neither who
 * uses the arena already nor who attaches crashes or hangs.
 *
 * A base process attaches and fills an arena. For each case the file is as the base left it, and
 * children of the base, which have it attached from the start, damage one word: one child then
 * looks (check), another goes on with every kind of operation. A third process, which has never
 * seen the arena, attaches to it with the damage done. What each value of each field means is in
 * clobber_fields.h.
 *
 * FST_TEST_SOAK=1 runs all cases, FST_TEST_SEED=n other bits and samples, FST_CLOBBER_ONLY=word
 * those whose field or structure has the word in its name; FST_CLOBBER_SHOW=1 prints what check()
 * said, FST_CLOBBER_PATIENCE=n is how many seconds a wait may take.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "alloc/registry.h"
#include "clobber_fields.h"
#include "clobber_work.h"
#include "reclaim/reaper.h"
#include "region/table.h"

#define SAMPLE 1500 /* cases, unless FST_TEST_SOAK is set */

/* ---- the fields ---- */

static void fields_cover_structures(void)
{
    for (int s = 0; s < S_COUNT; s++) {
        uint8_t seen[sizeof(struct fst_superblock) > 2048 ? sizeof(struct fst_superblock) : 2048] = {0};
        for (size_t i = 0; i < FIELDS; i++) {
            const struct field *f = &fields[i];
            if (f->structure != (enum structure)s)
                continue;
            REQUIRE(f->offset + f->size <= structure_sizes[s]);
            CHECK(f->size % f->element == 0);
            for (uint32_t k = f->offset; k < f->offset + f->size; k++)
                if (seen[k]++)
                    TEST_FAIL("%s covers byte %u, which another field has", f->name, k);
        }
        for (uint32_t k = 0; k < structure_sizes[s]; k++)
            if (!seen[k]) {
                TEST_FAIL("structure %d: byte %u is in no field of clobber_fields.h", s, k);
                break;
            }
    }
}

/* ---- the values ---- */

static const char *const value_names[VALUES] = {"0", "all ones", "+1", "-1", "a bit", "beyond", "itself"};

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 31) * 0x9e3779b97f4a7c15ull;
    return x ^ x >> 29;
}

static uint64_t hostile(uint64_t old, uint32_t bytes, int value, uint64_t self, uint64_t seed)
{
    uint64_t mask = bytes == 8 ? UINT64_MAX : (1ull << bytes * 8) - 1;
    uint64_t new[VALUES] = {0,   mask, old + 1, old - 1, old ^ 1ull << mix(seed) % (bytes * 8), (1ull << (bytes * 8 - 8)) | 0x1234,
                            self};
    return new[value] & mask;
}

/* ---- the file ---- */

static struct {
    int fd;
    uint8_t *map;
    off_t size;
    struct {
        off_t from, length;
        uint8_t *bytes;
    } part[64];
    int parts;
} file;

static void save(const char *path)
{
    struct stat st;
    file.fd = open(path, O_RDWR | O_CLOEXEC);
    REQUIRE(file.fd >= 0 && fstat(file.fd, &st) == 0);
    file.size = st.st_size;
    file.map = mmap(NULL, (size_t)file.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file.fd, 0);
    REQUIRE(file.map != MAP_FAILED);
    off_t at = 0;
    while ((at = lseek(file.fd, at, SEEK_DATA)) >= 0) {
        off_t end = lseek(file.fd, at, SEEK_HOLE);
        REQUIRE(file.parts < 64);
        file.part[file.parts].from = at;
        file.part[file.parts].length = end - at;
        file.part[file.parts].bytes = malloc((size_t)(end - at));
        REQUIRE(pread(file.fd, file.part[file.parts].bytes, (size_t)(end - at), at) == end - at);
        file.parts++;
        at = end;
    }
}

static void restore(void)
{
    REQUIRE(ftruncate(file.fd, file.size) == 0);
    REQUIRE(fallocate(file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, file.size) == 0);
    for (int i = 0; i < file.parts; i++)
        REQUIRE(pwrite(file.fd, file.part[i].bytes, (size_t)file.part[i].length, file.part[i].from) == file.part[i].length);
}

static const uint8_t *saved_at(uint64_t offset)
{
    static const uint8_t hole[8];
    for (int i = 0; i < file.parts; i++)
        if ((off_t)offset >= file.part[i].from && (off_t)offset < file.part[i].from + file.part[i].length)
            return file.part[i].bytes + (offset - (uint64_t)file.part[i].from);
    return hole;
}

/* ---- cases ---- */

static struct task {
    const struct spot *spot;
    const struct field *field;
    uint32_t element;
    int value;
    uint64_t seed, old, new;
} * task; /* in memory that all processes share */

static uint64_t read_word(const uint8_t *at, uint32_t bytes)
{
    uint64_t v = 0;
    memcpy(&v, at, bytes);
    return v;
}

static const char *describe(const struct task *c)
{
    static char text[256];
    snprintf(text, sizeof text, "%s: %s[%u] %llx -> %llx (%s)", c->spot->label, c->field->name, c->element,
             (unsigned long long)c->old, (unsigned long long)c->new, value_names[c->value]);
    return text;
}

static uint32_t offset_in_spot(const struct task *c)
{
    return c->field->offset + c->element * c->field->element;
}

/* 0: nothing wrong; else how it ended. */
static const char *ending(int status)
{
    static char text[64];
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return NULL;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        return "hangs";
    if (WIFSIGNALED(status))
        snprintf(text, sizeof text, "dies of signal %d", WTERMSIG(status));
    else
        snprintf(text, sizeof text, "ends with status %d", WEXITSTATUS(status));
    return text;
}

static unsigned crashes, hangs, wrong, tasks;

static bool note(const struct task *c, const char *phase, int status)
{
    const char *how = ending(status);
    if (!how)
        return true;
    if (strcmp(how, "hangs") == 0)
        hangs++;
    else if (strncmp(how, "dies", 4) == 0)
        crashes++;
    else
        wrong++;
    TEST_FAIL("%s: %s %s in %s (rc %d)", describe(c), phase, how, shared->step, shared->rc);
    return false;
}

/* In a child of the base: damage the word, and look or go on. */
static void in_child_of_base(void)
{
    const struct task *c = task;
    struct fst_ref warm[4];
    alarm(PATIENCE);
    shared->step = "warming up";
    for (unsigned i = 0; i < 4; i++)
        REQUIRE(fst_alloc(base, children[i], &warm[i]) == FST_OK);
    uint8_t *at = spot_at(base, c->spot) + offset_in_spot(c);
    task->old = read_word(at, c->field->element);
    task->new = hostile(task->old, c->field->element, c->value, c->spot->self, c->seed);
    memcpy(at, &task->new, c->field->element);
    if (shared->phase == PHASE_CHECK) {
        LOOK(shared->findings = (uint32_t)fst_check(base, count_finding, NULL));
        _exit(0);
    }
    for (unsigned i = 0; i < 4; i++)
        fst_drop(base, &warm[i]);
    do_everything(base);
    _exit(0);
}

static int run_in_child(void (*body)(void))
{
    int status;
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        body();
        _exit(0);
    }
    REQUIRE(waitpid(pid, &status, 0) == pid);
    return status;
}

/* The process that keeps the arena as it is, and whose children do the rest. */
static void be_base(struct peer *parent, void *context)
{
    (void)context;
    struct fst_open_options o = {
        .path = shared->path, .capacity = 16 * MIB, .create = FST_CREATE_NEW, .mode = 0600, .lasting = true};
    REQUIRE(fst_arena_open(&o, &base) == FST_OK);
    make_everything(base);
    fst_reaper_stop(base, true); /* its children may have one each */
    peer_say(parent, 'r');
    while (peer_hear(parent)) {
        shared->status = run_in_child(in_child_of_base);
        peer_say(parent, 'k');
    }
    _exit(0); /* the file is the test's to remove */
}

/* May check() be silent about it? */
static const char *is_legal(const struct task *c)
{
    if (c->field->kind == UNUSED || c->field->kind == PEOPLE || c->field->kind == HINT)
        return "not read, or any value is as good";
    for (size_t i = 0; i < LEGALS; i++)
        if (strncmp(c->field->name, legal[i].field, strlen(legal[i].field)) == 0 && (legal[i].values & V(c->value)) &&
            (!legal[i].spot || strstr(c->spot->label, legal[i].spot)))
            return legal[i].why;
    return NULL;
}

/* check() names the structure that was hit, once. */
static void compare(const struct task *c)
{
    const char *why = is_legal(c);
    if (getenv("FST_CLOBBER_SHOW"))
        printf("# %s: %u findings: %s\n", describe(c), shared->findings, shared->first);
    if (c->new == c->old || (why && shared->findings <= 1))
        return;
    if (why && c->field->kind == TRUTH && shared->findings)
        return; /* seen all the same, and by its consequences */
    if (shared->findings == 1)
        return;
    wrong++;
    TEST_FAIL("%s: %u findings: %s; %s", describe(c), shared->findings, shared->first, shared->last);
}

static struct peer peer;

static void run(const struct task *c)
{
    tasks++;
    for (int phase = PHASE_CHECK; phase <= PHASE_GO_ON; phase++) {
        restore();
        memset(shared->first, 0, sizeof shared->first);
        memset(shared->last, 0, sizeof shared->last);
        shared->findings = 0;
        shared->phase = phase;
        *task = *c;
        TELL(peer, 'c');
        int status = shared->status;
        c = task;
        bool fine = note(c, phase == PHASE_CHECK ? "check" : "going on", status);
        if (phase == PHASE_CHECK && fine)
            compare(c);
    }
    if (c->spot->own)
        return;
    restore();
    memcpy(file.map + c->spot->offset + offset_in_spot(c), &c->new, c->field->element);
    int status = run_in_child(attach_and_look);
    note(c, "attaching", status);
}

static void clobber_everything(void)
{
    shared = shared_memory(sizeof *shared);
    task = shared_memory(sizeof *task);
    snprintf(shared->path, sizeof shared->path, "%s", new_path("clobbered"));
    peer = peer_start(be_base, NULL);
    PEER_WAIT(&peer, 'r');
    save(shared->path);
    size_t number = 0;
    bool all = getenv("FST_TEST_SOAK") != NULL;
    const char *only = getenv("FST_CLOBBER_ONLY");
    uint64_t total = 0, seed = getenv("FST_TEST_SEED") ? strtoull(getenv("FST_TEST_SEED"), NULL, 0) : 1;
    for (int count = 1; count >= 0; count--)
        for (uint32_t i = 0; i < shared->spots; i++)
            for (size_t f = 0; f < FIELDS; f++) {
                const struct field *field = &fields[f];
                if (field->structure != shared->spot[i].structure || field->kind == PART)
                    continue;
                if (only && !strstr(field->name, only) && !strstr(shared->spot[i].label, only))
                    continue;
                uint32_t n = field->size / field->element;
                for (uint32_t e = 0; e < n; e++) {
                    if (n > 8 && e != 0 && e != mix(f + seed) % n)
                        continue;
                    for (int v = 0; v < VALUES; v++) {
                        struct task c = {&shared->spot[i], field, e, v, 0, 0, 0};
                        if (field->kind == UNUSED && v != FLIP)
                            continue;
                        if (!c.spot->own)
                            c.old = read_word(saved_at(c.spot->offset + offset_in_spot(&c)), field->element);
                        uint64_t where = mix((uint64_t)c.spot->offset + offset_in_spot(&c) + seed * 7919);
                        c.seed = where;
                        c.new = hostile(c.old, field->element, v, c.spot->self, where);
                        if (c.new == c.old && !c.spot->own)
                            continue;
                        if (count) {
                            total++;
                            continue;
                        }
                        number++;
                        if (!all && mix(where * 31 + (uint64_t)v) % total >= SAMPLE)
                            continue;
                        run(&c);
                    }
                }
            }
    peer_end(&peer);
    unlink(shared->path);
    printf("# %u of %zu cases (%zu fields, %d values): %u crashes, %u hangs, %u wrong\n", tasks, number, FIELDS, VALUES, crashes,
           hangs, wrong);
}

TEST_MAIN(CASE(fields_cover_structures), CASE(clobber_everything))
