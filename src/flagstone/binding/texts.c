#include "binding/texts.h"

#include <stdlib.h>
#include <string.h>

void fst_texts_add(void *texts, const char *text)
{
    struct fst_texts *to = texts;
    size_t length = strlen(text) + 1;
    char *more = realloc(to->bytes, to->size + length);
    if (more == NULL)
        return;
    memcpy(more + to->size, text, length);
    to->bytes = more;
    to->size += length;
}
