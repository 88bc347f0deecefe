/* A SQLite extension that brings the collation `unicase` and the function `shout`, as an application's library does. The interface is a
   table of functions in a published order that never changes (sqlite3ext.h), used here by place so that no header is needed. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { CREATE_COLLATION = 43, CREATE_FUNCTION = 45, RESULT_TEXT = 85, VALUE_TEXT = 109 };
enum { UTF8 = 1, DETERMINISTIC = 0x800, TRANSIENT = -1 };

static void **api;

static int compare(void *unused, int a_length, const void *a, int b_length, const void *b) {
    (void)unused;
    for (int at = 0; at < a_length && at < b_length; at++) {
        int difference = tolower(((const unsigned char *)a)[at]) - tolower(((const unsigned char *)b)[at]);
        if (difference != 0) return difference;
    }
    return a_length - b_length;
}

static void shout(void *context, int count, void **values) {
    (void)count;
    const unsigned char *(*value_text)(void *) = (const unsigned char *(*)(void *))api[VALUE_TEXT];
    void (*result_text)(void *, const char *, int, void *) = (void (*)(void *, const char *, int, void *))api[RESULT_TEXT];
    char text[256];
    snprintf(text, sizeof text, "%s!", (const char *)value_text(values[0]));
    result_text(context, text, -1, (void *)(long)TRANSIENT);
}

int sqlite3_extension_init(void *database, char **error, void **routines) {
    (void)error;
    api = routines;
    int (*create_collation)(void *, const char *, int, void *, void *) = (int (*)(void *, const char *, int, void *, void *))api[CREATE_COLLATION];
    int (*create_function)(void *, const char *, int, int, void *, void *, void *, void *) =
        (int (*)(void *, const char *, int, int, void *, void *, void *, void *))api[CREATE_FUNCTION];
    int code = create_collation(database, "unicase", UTF8, NULL, (void *)compare);
    return code != 0 ? code : create_function(database, "shout", 1, UTF8 | DETERMINISTIC, NULL, (void *)shout, NULL, NULL);
}
