/* A reader of JSON: a tree of values over the text, which it changes in place. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef enum { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } JsonKind;

/* `text` is a string's value, or where a number begins; `key` a member's name. */
typedef struct Json {
    JsonKind kind;
    const char *key, *text;
    struct Json *first, *next;
} Json;

static void json_free(Json *value) {
    while (value != NULL) {
        Json *next = value->next;
        json_free(value->first);
        free(value);
        value = next;
    }
}

static void json_space(char **at) { *at += strspn(*at, " \t\r\n"); }

static bool json_take(char **at, char wanted) {
    json_space(at);
    if (**at != wanted)
        return false;
    ++*at;
    return true;
}

static char *json_utf8(char *out, unsigned int code) {
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xc0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3f));
    } else {
        *out++ = (char)(0xe0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
        *out++ = (char)(0x80 | (code & 0x3f));
    }
    return out;
}

/* The string that begins at `at`, unescaped in place; NULL where there is none. */
static const char *json_string(char **at) {
    static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    if (!json_take(at, '"'))
        return NULL;
    char *start = *at, *out = start;
    for (char *in = start; *in != '\0';) {
        if (*in == '"') {
            *out = '\0';
            *at = in + 1;
            return start;
        }
        if (*in != '\\') {
            *out++ = *in++;
            continue;
        }
        const char *escape = in[1] == '\0' ? NULL : strchr(escapes, in[1]);
        if (escape != NULL) {
            *out++ = meant[escape - escapes];
            in += 2;
        } else if (in[1] == 'u' && strspn(in + 2, "0123456789abcdefABCDEF") >= 4) {
            char digits[5] = {in[2], in[3], in[4], in[5], '\0'};
            out = json_utf8(out, (unsigned int)strtoul(digits, NULL, 16));
            in += 6;
        } else {
            return NULL;
        }
    }
    return NULL;
}

static Json *json_value(char **at);

/* The members or elements up to `end`; whether they are well formed. */
static bool json_children(Json *parent, char **at, char end) {
    Json **last = &parent->first;
    if (json_take(at, end))
        return true;
    do {
        const char *key = NULL;
        if (parent->kind == JSON_OBJECT && ((key = json_string(at)) == NULL || !json_take(at, ':')))
            return false;
        if ((*last = json_value(at)) == NULL)
            return false;
        (*last)->key = key;
        last = &(*last)->next;
    } while (json_take(at, ','));
    return json_take(at, end);
}

/* The value at `at`; NULL where it is malformed. */
static Json *json_value(char **at) {
    static const struct {
        const char *word;
        JsonKind kind;
    } words[] = {{"null", JSON_NULL}, {"false", JSON_FALSE}, {"true", JSON_TRUE}};
    Json *value = calloc(1, sizeof *value);
    bool good = false;
    json_space(at);
    if (**at == '"') {
        value->kind = JSON_STRING;
        good = (value->text = json_string(at)) != NULL;
    } else if (json_take(at, '{')) {
        value->kind = JSON_OBJECT;
        good = json_children(value, at, '}');
    } else if (json_take(at, '[')) {
        value->kind = JSON_ARRAY;
        good = json_children(value, at, ']');
    } else if (**at != '\0' && strchr("-0123456789", **at) != NULL) {
        value->kind = JSON_NUMBER;
        value->text = *at;
        *at += strspn(*at, "-+.eE0123456789");
        good = true;
    }
    for (size_t i = 0; !good && i < sizeof words / sizeof *words; i++)
        if (strncmp(*at, words[i].word, strlen(words[i].word)) == 0) {
            value->kind = words[i].kind;
            *at += strlen(words[i].word);
            good = true;
        }
    if (good)
        return value;
    json_free(value);
    return NULL;
}

/* The document that `text` is; NULL where it is malformed. */
static Json *json_parse(char *text) {
    Json *value = json_value(&text);
    json_space(&text);
    if (*text == '\0')
        return value;
    json_free(value);
    return NULL;
}

/* A member by its name; NULL where there is none, or no object. */
static const Json *json_member(const Json *object, const char *name) {
    if (object == NULL || object->kind != JSON_OBJECT)
        return NULL;
    for (const Json *each = object->first; each != NULL; each = each->next)
        if (strcmp(each->key, name) == 0)
            return each;
    return NULL;
}

/* An element by its place; NULL where there is none, or no array. */
static const Json *json_element(const Json *array, unsigned int place) {
    if (array == NULL || array->kind != JSON_ARRAY)
        return NULL;
    const Json *each = array->first;
    while (each != NULL && place-- > 0)
        each = each->next;
    return each;
}

static unsigned int json_length(const Json *value) {
    unsigned int count = 0;
    for (const Json *each = value == NULL ? NULL : value->first; each != NULL; each = each->next)
        count++;
    return count;
}

/* Whether there is a value, and not null. */
static bool json_there(const Json *value) { return value != NULL && value->kind != JSON_NULL; }

/* An integer; a negative one as its two's complement. 0 where it is no number. */
static unsigned long long json_integer(const Json *value) {
    if (value == NULL || value->kind != JSON_NUMBER)
        return 0;
    return *value->text == '-' ? (unsigned long long)strtoll(value->text, NULL, 10)
                               : strtoull(value->text, NULL, 10);
}

/* Whether a number is written with a fraction or an exponent. */
static bool json_is_fraction(const Json *value) {
    return strcspn(value->text, ".eE") < strspn(value->text, "-+.eE0123456789");
}
