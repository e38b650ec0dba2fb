/* What objects mean that have no cache of their own: interned texts, and texts behind the bytes. */
#include "alloc/form.h"
#include "alloc/sizeclass.h"
#include "support.h"

static fst_arena *a;

static void settle_and_end(void)
{
    settle(a);
    CHECK_EQ(0, used_bytes(a));
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

static struct fst_form_spec interned(const char *text, uint64_t nbytes)
{
    struct fst_form_spec spec = {.text = text, .text_bytes = strlen(text)};
    if (fst_form_intern(a, text, spec.text_bytes, nbytes, true, &spec.form) || !spec.form)
        TEST_FAIL("%s has no number: %s", text, fst_last_error());
    return spec;
}

static struct fst_form_spec behind(const char *text)
{
    return (struct fst_form_spec){.text = text, .text_bytes = strlen(text)};
}

static struct fst_ref make(uint64_t nbytes, const struct fst_form_spec *spec)
{
    struct fst_ref ref = {0};
    if (fst_alloc_form(a, fst_group_root(a), nbytes, spec, &ref))
        TEST_FAIL("alloc of %llu: %s", (unsigned long long)nbytes, fst_last_error());
    return ref;
}

static void check_means(const struct fst_ref *ref, uint64_t nbytes, const struct fst_form_spec *spec)
{
    static char text[1 << 16];
    size_t bytes = 0;
    CHECK_EQ(nbytes, ref->nbytes);
    CHECK_EQ(spec->form ? spec->form : FST_FORM_OWN, ref->form);
    CHECK_EQ(FST_OK, fst_form_text(a, ref, text, sizeof text, &bytes));
    CHECK_EQ(spec->text_bytes, bytes);
    CHECK(memcmp(text, spec->text, bytes) == 0);
    bytes = 0;
    CHECK_EQ(FST_OK, fst_form_text(a, ref, text, 3, &bytes)); /* no room: what fits */
    CHECK_EQ(spec->text_bytes, bytes);
}

static const uint64_t SIZES[] = {0, 1, 8, 100, 4096, 65500, 65536, 65537, 70000, 1 << 20, (1 << 20) - 7};
#define N (sizeof SIZES / sizeof *SIZES)

/* By the handle alone, here and in another process, which never heard of the text. */
static void handle_says_what_it_is(void)
{
    a = anonymous(64 * MIB);
    for (size_t i = 0; i < 2 * N; i++) {
        uint64_t nbytes = SIZES[i / 2];
        struct fst_form_spec spec = i % 2 ? interned("('<f8', (3,))", nbytes) : behind("('<f4', (3, 4), 'F')");
        struct fst_ref ref = make(nbytes, &spec), other;
        check_means(&ref, nbytes, &spec);
        fill(ref.data, ref.nbytes, i);
        check_means(&ref, nbytes, &spec); /* its bytes are all its own */
        struct fst_handle handle;
        CHECK_EQ(FST_OK, fst_handle_of(a, &ref, &handle));
        pid_t pid = fork();
        if (pid == 0) {
            CHECK_EQ(FST_OK, fst_resolve(a, &handle, &other));
            check_means(&other, nbytes, &spec);
            CHECK(filled(other.data, other.nbytes, i));
            fst_drop(a, &other);
            CHILD_EXIT();
        }
        CHECK_CHILD(pid);
        if (nbytes) {
            CHECK_EQ(FST_OK, fst_ref_at(a, (const uint8_t *)ref.data + nbytes - 1, &other));
            check_means(&other, nbytes, &spec);
            fst_drop(a, &other);
            CHECK(fst_arena_spans(a, ref.data));
            CHECK(!fst_arena_spans(a, &ref));
        }
        CHECK_CLEAN(a);
        fst_drop(a, &ref);
    }
    settle_and_end();
}

/* A number in the word, and no byte more: the class is that of the bytes. */
static void costs_nothing(void)
{
    a = anonymous(64 * MIB);
    struct fst_form_spec spec = interned("('<u4', (16,))", 64);
    struct fst_ref with = make(64, &spec), without = alloc_bytes(a, 64);
    uint64_t cache[2], group;
    CHECK_EQ(FST_OK, fst_object_owner(a, &with, &cache[0], &group));
    CHECK_EQ(FST_OK, fst_object_owner(a, &without, &cache[1], &group));
    CHECK_EQ(cache[1], cache[0]);
    fst_drop(a, &with);
    fst_drop(a, &without);
    /* The next object in its place has no form. */
    struct fst_ref next = alloc_bytes(a, 60), same = {.form = 1};
    struct fst_handle handle;
    CHECK_EQ(FST_OK, fst_handle_of(a, &next, &handle));
    CHECK_EQ(FST_OK, fst_resolve(a, &handle, &same));
    CHECK_EQ(0, same.form);
    CHECK_EQ(60, same.nbytes);
    fst_drop(a, &same);
    fst_drop(a, &next);
    settle_and_end();
}

static void same_text_same_number(void)
{
    a = anonymous(64 * MIB);
    struct fst_form_spec one = interned("x", 8), two = interned("x", 16), three = interned("y", 8);
    CHECK(one.form != two.form && one.form != three.form && two.form != three.form);
    CHECK_EQ(one.form, interned("x", 8).form);
    static char long_text[FST_FORM_TEXT + 2];
    memset(long_text, 'l', FST_FORM_TEXT + 1);
    uint32_t form = 1;
    CHECK_EQ(FST_OK, fst_form_intern(a, long_text, FST_FORM_TEXT + 1, 8, true, &form));
    CHECK_EQ(0, form);
    long_text[FST_FORM_TEXT] = 0;
    CHECK(interned(long_text, 8).form != 0);
    settle_and_end();
}

/* Many processes at once: each text once. */
static void made_by_many(void)
{
    enum { PROCESSES = 8, TEXTS = 300 };
    a = anonymous(64 * MIB);
    uint32_t(*seen)[TEXTS] = shared_memory(PROCESSES * sizeof *seen);
    pid_t pids[PROCESSES];
    for (int p = 0; p < PROCESSES; p++) {
        pids[p] = fork();
        if (pids[p] == 0) {
            char text[32];
            for (int i = 0; i < TEXTS; i++) {
                snprintf(text, sizeof text, "text %d", i);
                seen[p][i] = interned(text, (uint64_t)i).form;
            }
            CHILD_EXIT();
        }
    }
    for (int p = 0; p < PROCESSES; p++)
        CHECK_CHILD(pids[p]);
    for (int p = 1; p < PROCESSES; p++)
        for (int i = 0; i < TEXTS; i++)
            CHECK_EQ(seen[0][i], seen[p][i]);
    settle_and_end();
}

/* One-off texts fill half of the table; those that come again, all of it; then it goes on
 * without. */
static void table_used_up(void)
{
    a = anonymous(64 * MIB);
    char text[32];
    uint32_t form, made = 0;
    for (uint32_t i = 0; i < FST_MAX_FORMS + 10; i++) {
        snprintf(text, sizeof text, "once %u", i);
        CHECK_EQ(FST_OK, fst_form_intern(a, text, strlen(text), i, false, &form));
        made += form != 0;
    }
    CHECK_EQ(FST_MAX_FORMS / 2, made);
    for (uint32_t i = 0; i < FST_MAX_FORMS + 10; i++) {
        snprintf(text, sizeof text, "again %u", i);
        CHECK_EQ(FST_OK, fst_form_intern(a, text, strlen(text), i, true, &form));
        made += form != 0;
    }
    CHECK_EQ(FST_MAX_FORMS, made);
    CHECK_EQ(FST_OK, fst_form_intern(a, "once 7", 6, 7, false, &form));
    CHECK_EQ(8, form);
    struct fst_form_spec last = {FST_MAX_FORMS, "again 4094", 10};
    struct fst_ref ref = make(4094, &last);
    check_means(&ref, 4094, &last);
    fst_drop(a, &ref);
    settle_and_end();
}

/* ---- damage ---- */

static void in_another_process(void (*body)(const struct fst_handle *handle), const struct fst_handle *handle)
{
    pid_t pid = fork();
    if (pid == 0) {
        body(handle);
        CHILD_EXIT();
    }
    CHECK_CHILD(pid);
}

static void refused(const struct fst_handle *handle)
{
    struct fst_ref ref;
    CHECK_EQ(FST_CORRUPTED, fst_resolve(a, handle, &ref));
    CHECK(strstr(fst_last_error(), "form") != NULL);
}

static void text_refused(const struct fst_handle *handle)
{
    struct fst_ref ref;
    char text[64];
    size_t bytes;
    CHECK_EQ(FST_OK, fst_resolve(a, handle, &ref));
    CHECK_EQ(FST_CORRUPTED, fst_form_text(a, &ref, text, sizeof text, &bytes));
}

static void behind_refused(const struct fst_handle *handle)
{
    struct fst_ref ref;
    CHECK_EQ(FST_CORRUPTED, fst_resolve(a, handle, &ref));
    CHECK(strstr(fst_last_error(), "overwritten") != NULL);
    ref = alloc_bytes(a, 100); /* nothing of the arena's own was damaged */
    fst_drop(a, &ref);
}

static void damage_is_noticed(void)
{
    a = anonymous(64 * MIB);
    struct fst_form_spec spec = interned("('<f8', (8,))", 64), text = behind("('<f8', (8,))");
    struct fst_ref ref = make(64, &spec), own = make(64, &text);
    struct fst_handle handle, own_handle;
    CHECK_EQ(FST_OK, fst_handle_of(a, &ref, &handle));
    CHECK_EQ(FST_OK, fst_handle_of(a, &own, &own_handle));
    uint64_t *word = fst_word_of(a, ref.oid), was = *word;
    struct fst_form *f = fst_form_at(a, spec.form - 1), before = *f;

    *word = (was & ~FST_WORD_SLACK) | fst_form_mark(spec.form + 1) << FST_WORD_SLACK_SHIFT;
    in_another_process(refused, &handle);
    CHECK_EQ(1, fst_check(a, print_finding, NULL));
    *word = was;
    f->nbytes = 1 << 20;
    in_another_process(refused, &handle);
    *f = before;
    f->nbytes = 32;
    in_another_process(text_refused, &handle);
    *f = before;
    f->text[3] ^= 1;
    in_another_process(text_refused, &handle);
    CHECK_EQ(1, fst_check(a, print_finding, NULL));
    *f = before;
    f->text_bytes = 100000;
    in_another_process(text_refused, &handle);
    *f = before;
    uint8_t *end = (uint8_t *)own.data + fst_size_class_bytes(fst_size_class_of(64 + fst_form_behind_bytes(text.text_bytes)));
    struct fst_form_behind tail, bad;
    memcpy(&tail, end - sizeof tail, sizeof tail);
    bad = tail;
    bad.nbytes = 1000;
    memcpy(end - sizeof bad, &bad, sizeof bad);
    in_another_process(behind_refused, &own_handle);
    bad = tail;
    bad.text_bytes = UINT32_MAX;
    memcpy(end - sizeof bad, &bad, sizeof bad);
    in_another_process(behind_refused, &own_handle);
    bad = tail;
    bad.hash ^= 1;
    memcpy(end - sizeof bad, &bad, sizeof bad);
    in_another_process(text_refused, &own_handle);
    memcpy(end - sizeof tail, &tail, sizeof tail);
    check_means(&own, 64, &text);
    check_means(&ref, 64, &spec);
    fst_drop(a, &ref);
    fst_drop(a, &own);
    settle_and_end();
}

/* ---- size classes are remembered ---- */

/* Who has used a size in a group waits for nobody who holds the lock of names. */
static void no_lock_once_used(void)
{
    a = anonymous(64 * MIB);
    uint64_t group = make_group(a, "g", fst_group_root(a), FST_NO_LIMIT, 0);
    struct fst_form_spec spec = interned("('<u1', (300,))", 300);
    struct fst_ref ref;
    for (int turn = 0; turn < 2; turn++) {
        if (turn)
            REQUIRE(!lock_word(a, &a->sb->names_lock));
        for (int i = 0; i < 100; i++) {
            uint64_t nbytes = i % 2 ? 100 : 300000;
            CHECK_EQ(FST_OK, fst_alloc_bytes(a, i % 3 ? group : fst_group_root(a), nbytes, &ref));
            fst_drop(a, &ref);
            CHECK_EQ(FST_OK, fst_alloc_form(a, i % 3 ? group : fst_group_root(a), 300, &spec, &ref));
            fst_drop(a, &ref);
        }
    }
    fst_unlock(a, &a->sb->names_lock);
    /* It ends for who remembers it, too. */
    CHECK_EQ(FST_OK, fst_group_close(a, group));
    CHECK_EQ(FST_CLOSED, fst_alloc_bytes(a, group, 100, &ref));
    CHECK_EQ(FST_CLOSED, fst_alloc_bytes(a, group, 300000, &ref));
    CHECK_EQ(FST_CLOSED, fst_alloc_form(a, group, 300, &spec, &ref));
    fst_group_unref(a, group);
    settle_and_end();
}

TEST_MAIN(CASE(handle_says_what_it_is), CASE(costs_nothing), CASE(same_text_same_number), CASE(made_by_many), CASE(table_used_up),
          CASE(damage_is_noticed), CASE(no_lock_once_used))
