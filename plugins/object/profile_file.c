/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* One profile out of a file.  See profile_file.h. */
#include "profile_file.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void profile_finish(struct profile *profile)
{
    for (size_t i = 0; i < profile->n; i++) {
        char *value = profile->entries[i].value;

        explicit_bzero(value, strlen(value));
        free(value);
        free(profile->entries[i].key);
    }
    free(profile->entries);
    memset(profile, 0, sizeof *profile);
}

const char *profile_get(const struct profile *profile, const char *key)
{
    for (size_t i = profile->n; i > 0; i--)
        if (strcmp(profile->entries[i - 1].key, key) == 0)
            return profile->entries[i - 1].value[0]
                       ? profile->entries[i - 1].value
                       : NULL;
    return NULL;
}

static int add(struct profile *profile, const char *key, const char *value)
{
    struct profile_entry *more =
        realloc(profile->entries, (profile->n + 1) * sizeof *profile->entries);

    if (!more)
        return ENOMEM;
    profile->entries = more;
    more += profile->n;
    more->key = strdup(key);
    more->value = strdup(value);
    if (!more->key || !more->value) {
        free(more->key);
        free(more->value);
        return ENOMEM;
    }
    for (char *c = more->key; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    profile->n++;
    return 0;
}

/* Without the blanks at both ends. */
static char *trim(char *text)
{
    size_t length;

    text += strspn(text, " \t\r\n");
    length = strlen(text);
    while (length > 0 && strchr(" \t\r\n", text[length - 1]))
        length--;
    text[length] = '\0';
    return text;
}

/* "[name]": is it the one?  0, or EINVAL: it is no head. */
static int read_head(char *line, bool is_config, const char *name,
                     bool *ret_ours)
{
    char *end = strchr(line, ']');

    if (!end)
        return EINVAL;
    *end = '\0';
    line = trim(line + 1);
    if (is_config && strncmp(line, "profile", 7) == 0 &&
        (line[7] == ' ' || line[7] == '\t')) {
        *ret_ours = strcmp(trim(line + 7), name) == 0;
    } else {
        /* In a config file only the default may go without "profile". */
        *ret_ours = strcmp(line, name) == 0 &&
                    (!is_config || strcmp(name, "default") == 0);
    }
    return 0;
}

/* One line that is neither empty nor a comment. */
static int read_line(char *line, bool is_config, const char *name, bool *ours,
                     bool *nests, struct profile *ret)
{
    bool indented = line[0] == ' ' || line[0] == '\t';
    char *value, *key = trim(line);

    if (key[0] == '[' && !indented) {
        int err = read_head(key, is_config, name, ours);

        ret->found |= !err && *ours;
        *nests = false;
        return err;
    }
    if (indented && *nests)
        return 0;
    value = strchr(key, '=');
    if (!value || value == key)
        return EINVAL;
    *value++ = '\0';
    value = trim(value);
    *nests = !value[0];
    return *ours ? add(ret, trim(key), value) : 0;
}

int profile_read(const char *path, bool is_config, const char *name,
                 struct profile *ret, char why[PROFILE_WHY_MAX])
{
    FILE *file = fopen(path, "re");
    bool ours = false, nests = false;
    unsigned number = 0;
    char *line = NULL;
    size_t size = 0;
    int err = 0;

    memset(ret, 0, sizeof *ret);
    if (!file) {
        err = errno;
        snprintf(why, PROFILE_WHY_MAX, "%.180s: %s", path,
                 strerrordesc_np(err));
        return err;
    }
    errno = 0;
    while (!err && getline(&line, &size, file) >= 0) {
        const char *first = line + strspn(line, " \t\r\n");

        number++;
        if (*first && *first != '#' && *first != ';')
            err = read_line(line, is_config, name, &ours, &nests, ret);
        if (err)
            snprintf(why, PROFILE_WHY_MAX, "%.180s, line %u: %s", path, number,
                     err == EINVAL ? "neither [PROFILE] nor KEY = VALUE"
                                   : "no memory");
        errno = 0;
    }
    if (!err && ferror(file)) {
        err = errno ? errno : EIO;
        snprintf(why, PROFILE_WHY_MAX, "%.180s: %s", path,
                 strerrordesc_np(err));
    }
    if (line)
        explicit_bzero(line, size);
    free(line);
    fclose(file);
    if (err)
        profile_finish(ret);
    return err;
}
