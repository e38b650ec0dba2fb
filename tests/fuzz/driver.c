/* driver.c - a main() for a fuzzing target without a fuzzer: runs what the fuzzers found, and what
 * chance brings, in any build.
 *
 *     fuzz_NAME [--random COUNT] [FILE-OR-FOLDER...]
 *
 * Inputs run one after the other in a forked process. When one ends it, that one is named, and the
 * next process goes on behind it.
 */
#include <dirent.h>

#include "fuzz.h"

#define LONGEST (1u << 16)

struct inputs {
    char **files;         /* NULL: at random, always the same ones */
    unsigned long number; /* of them */
};

/* Short ones and long ones, with many small numbers among their bytes. */
static size_t at_random(unsigned long n, uint8_t *data)
{
    uint64_t random = (n + 1) * 0x9e3779b97f4a7c15ull;
    size_t size = 1 + next_random(&random) % (n % 8 ? 200 : 4000);
    for (size_t i = 0; i < size; i++) {
        uint64_t r = next_random(&random);
        data[i] = (uint8_t)(r & 0x300 ? r : r & 7);
    }
    return size;
}

static size_t from_file(const char *path, uint8_t *data)
{
    FILE *file = fopen(path, "rb");
    REQUIRE(file);
    size_t size = fread(data, 1, LONGEST, file);
    fclose(file);
    return size;
}

static void run_one(const struct inputs *in, unsigned long n)
{
    static uint8_t data[LONGEST];
    size_t size = in->files ? from_file(in->files[n], data) : at_random(n, data);
    uint8_t *copy = malloc(size); /* of just that size, so that a sanitizer sees a look beyond it */
    REQUIRE(copy || !size);
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static int run(const struct inputs *in)
{
    unsigned long *at = shared_memory(sizeof *at);
    int failed = 0;
    while (*at < in->number) {
        int status = 0;
        fflush(NULL);
        pid_t pid = fork();
        REQUIRE(pid >= 0);
        if (pid == 0) {
            for (; *at < in->number; ++*at)
                run_one(in, *at);
            exit(0);
        }
        REQUIRE(test_wait(pid, &status) == pid);
        if (status == 0)
            break;
        failed++;
        if (*at >= in->number)
            printf("at the end of all inputs: status 0x%x\n", (unsigned)status);
        else if (in->files)
            printf("%s: status 0x%x\n", in->files[*at], (unsigned)status);
        else
            printf("random input %lu: status 0x%x\n", *at, (unsigned)status);
        ++*at;
    }
    munmap(at, sizeof *at);
    return failed;
}

static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void add(struct inputs *in, const char *path)
{
    in->files = realloc(in->files, (in->number + 1) * sizeof *in->files);
    REQUIRE(in->files);
    in->files[in->number] = strdup(path);
    REQUIRE(in->files[in->number]);
    in->number++;
}

static void add_path(struct inputs *in, const char *path)
{
    struct dirent **list;
    int n = scandir(path, &list, visible, alphasort);
    if (n < 0) {
        add(in, path);
        return;
    }
    for (int i = 0; i < n; i++) {
        char file[4096];
        REQUIRE(snprintf(file, sizeof file, "%s/%s", path, list[i]->d_name) < (int)sizeof file);
        add(in, file);
        free(list[i]);
    }
    free(list);
}

int main(int argc, char **argv)
{
    int i = 1, failed = 0;
    struct inputs files = {0}, chance = {0};
    if (argc > 2 && strcmp(argv[1], "--random") == 0) {
        chance.number = strtoul(argv[2], NULL, 10);
        i = 3;
    }
    for (; i < argc; i++)
        add_path(&files, argv[i]);
    failed = run(&files) + run(&chance);
    printf("%lu files, %lu random inputs, %d failed\n", files.number, chance.number, failed);
    for (unsigned long n = 0; n < files.number; n++)
        free(files.files[n]);
    free(files.files);
    return failed != 0;
}
