/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Who we are to S3.  See credentials.h; profile_file.c reads the files. */
#include "credentials.h"

#include "profile_file.h"

#include "base/json_read.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OUTPUT_MAX (64 * 1024) /* of a program that tells credentials */

extern char **environ;

static void wipe(char **text)
{
    if (*text)
        explicit_bzero(*text, strlen(*text));
    free(*text);
    *text = NULL;
}

void credentials_finish(struct credentials *credentials)
{
    wipe(&credentials->access_key);
    wipe(&credentials->secret_key);
    wipe(&credentials->session_token);
    free(credentials->region);
    free(credentials->endpoint);
    free(credentials->source);
    memset(credentials, 0, sizeof *credentials);
}

/* An empty variable is none. */
static const char *variable(const char *name)
{
    const char *value = getenv(name);

    return value && value[0] ? value : NULL;
}

static const char *first_variable(const char *name, const char *other)
{
    const char *value = variable(name);

    return value ? value : variable(other);
}

/* Keeps what is there. */
static int set(char **to, const char *value)
{
    if (*to || !value)
        return 0;
    *to = strdup(value);
    return *to ? 0 : ENOMEM;
}

static int set_keys(struct credentials *ret, const char *access_key,
                    const char *secret_key, const char *token,
                    const char *source)
{
    if (set(&ret->access_key, access_key) ||
        set(&ret->secret_key, secret_key) || set(&ret->session_token, token) ||
        set(&ret->source, source))
        return ENOMEM;
    return 0;
}

/* --- a program that tells them --- */

/* Its standard output, at most OUTPUT_MAX bytes. */
static int run(const char *command, char *output, size_t *ret_length,
               char why[CREDENTIALS_WHY_MAX])
{
    char sh[] = "sh", c[] = "-c", *argv[] = {sh, c, (char *)command, NULL};
    posix_spawn_file_actions_t actions;
    int pipes[2], status = 0, err;
    ssize_t n = 0;
    pid_t pid;

    *ret_length = 0;
    if (pipe2(pipes, O_CLOEXEC) < 0)
        return errno;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipes[1], 1);
    err = posix_spawn(&pid, "/bin/sh", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(pipes[1]);
    while (!err && *ret_length < OUTPUT_MAX &&
           ((n = read(pipes[0], output + *ret_length,
                      OUTPUT_MAX - *ret_length)) > 0 ||
            (n < 0 && errno == EINTR)))
        *ret_length += n > 0 ? (size_t)n : 0;
    close(pipes[0]);
    if (err) {
        snprintf(why, CREDENTIALS_WHY_MAX, "credential_process: /bin/sh: %s",
                 strerrordesc_np(err));
        return err;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (*ret_length == OUTPUT_MAX || status != 0) {
        snprintf(why, CREDENTIALS_WHY_MAX, "credential_process %s %d",
                 status == 0           ? "printed too much, status"
                 : WIFSIGNALED(status) ? "was ended by signal"
                                       : "failed with status",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        return EINVAL;
    }
    return 0;
}

static const char *string_of(const struct json_value *object, const char *key)
{
    const struct json_value *value = json_find(object, key);

    return value && value->type == JSON_STRING && value->text[0] ? value->text
                                                                 : NULL;
}

/* 2026-01-31T23:59:59Z, or with an offset; 0: it can't be read. */
static uint64_t parse_time(const char *text)
{
    struct tm tm;
    const char *rest;
    int hours = 0, minutes = 0;
    char sign = '+';
    int64_t when;

    memset(&tm, 0, sizeof tm);
    rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (!rest)
        return 0;
    if (*rest == '.')
        rest += 1 + strspn(rest + 1, "0123456789");
    if (strcmp(rest, "Z") != 0 &&
        sscanf(rest, "%c%2d:%2d", &sign, &hours, &minutes) != 3)
        return 0;
    when = (int64_t)timegm(&tm) -
           (sign == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
    return when > 0 ? (uint64_t)when : 0;
}

static int read_output(const char *output, size_t length,
                       struct credentials *ret, char why[CREDENTIALS_WHY_MAX])
{
    struct json_document document = {0};
    struct json_fault fault;
    const struct json_value *version;
    const char *access_key, *secret_key, *expires;
    int err = json_read(output, length, &document, &fault);

    if (err) {
        snprintf(why, CREDENTIALS_WHY_MAX,
                 "credential_process printed no JSON: byte %zu: %s", fault.at,
                 err == EINVAL ? fault.why : "no memory");
        return err;
    }
    version = json_find(document.root, "Version");
    access_key = string_of(document.root, "AccessKeyId");
    secret_key = string_of(document.root, "SecretAccessKey");
    expires = string_of(document.root, "Expiration");
    if (!version || version->type != JSON_NUMBER || !version->whole ||
        version->number != 1 || !access_key || !secret_key ||
        (expires && !parse_time(expires))) {
        snprintf(why, CREDENTIALS_WHY_MAX,
                 "credential_process must print Version 1, AccessKeyId, "
                 "SecretAccessKey, and an Expiration that is a time or none");
        err = EINVAL;
    } else {
        err = set_keys(ret, access_key, secret_key,
                       string_of(document.root, "SessionToken"),
                       "credential_process");
        ret->expires_s = expires ? parse_time(expires) : 0;
    }
    if (document.text)
        explicit_bzero(document.text, length);
    json_document_finish(&document);
    return err;
}

static int ask_program(const char *command, struct credentials *ret,
                       char why[CREDENTIALS_WHY_MAX])
{
    char *output = malloc(OUTPUT_MAX + 1);
    size_t length = 0;
    int err = output ? run(command, output, &length, why) : ENOMEM;

    if (!err)
        err = read_output(output, length, ret, why);
    if (output)
        explicit_bzero(output, length);
    free(output);
    return err;
}

/* --- profiles --- */

static int add_home(const char *variable_name, const char *below, char *ret,
                    size_t size)
{
    const char *named = variable(variable_name), *home = variable("HOME");

    if (!named && !home)
        return ENOENT;
    return (size_t)snprintf(ret, size, "%s%s", named ? named : home,
                            named ? "" : below) < size
               ? 0
               : ENAMETOOLONG;
}

/* What we can't do must not look as if there were no keys. */
static int check_kind(const struct profile *profile, const char *name,
                      char why[CREDENTIALS_WHY_MAX])
{
    static const char *const unknown[] = {
        "role_arn", "sso_session", "sso_start_url", "web_identity_token_file"};

    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        if (profile_get(profile, unknown[i])) {
            snprintf(why, CREDENTIALS_WHY_MAX,
                     "profile %.60s: %s is not supported; credential_process "
                     "is, and so are the variables AWS_ACCESS_KEY_ID, ...",
                     name, unknown[i]);
            return ENOTSUP;
        }
    return 0;
}

static int take_keys(const struct profile *profile, const char *path,
                     const char *name, struct credentials *ret,
                     char why[CREDENTIALS_WHY_MAX])
{
    const char *access_key = profile_get(profile, "aws_access_key_id");
    const char *secret_key = profile_get(profile, "aws_secret_access_key");
    char source[CREDENTIALS_WHY_MAX];

    if (ret->access_key || (!access_key && !secret_key))
        return 0;
    if (!access_key || !secret_key) {
        snprintf(why, CREDENTIALS_WHY_MAX,
                 "%.120s, profile %.60s: %s is missing", path, name,
                 access_key ? "aws_secret_access_key" : "aws_access_key_id");
        return EINVAL;
    }
    snprintf(source, sizeof source, "%.120s, profile %.60s", path, name);
    return set_keys(ret, access_key, secret_key,
                    profile_get(profile, "aws_session_token"), source);
}

/* One of the files. */
static int read_file(const char *path, bool is_config, const char *name,
                     bool wants_keys, struct credentials *ret, bool *ret_found,
                     char why[CREDENTIALS_WHY_MAX])
{
    struct profile profile;
    const char *command, *endpoint;
    int err = profile_read(path, is_config, name, &profile, why);

    if (err)
        return err == ENOENT ? 0 : err;
    *ret_found |= profile.found;
    err = set(&ret->region, profile_get(&profile, "region"));
    endpoint = profile_get(&profile, "endpoint_url");
    if (!err)
        err = set(&ret->endpoint, endpoint);
    if (!err && wants_keys)
        err = take_keys(&profile, path, name, ret, why);
    command = profile_get(&profile, "credential_process");
    if (!err && wants_keys && !ret->access_key && command)
        err = ask_program(command, ret, why);
    if (!err && wants_keys && !ret->access_key)
        err = check_kind(&profile, name, why);
    profile_finish(&profile);
    return err;
}

static int read_files(const char *wanted, const char *name, bool wants_keys,
                      struct credentials *ret, char why[CREDENTIALS_WHY_MAX])
{
    char path[4096];
    bool found = false;
    int err;

    err = add_home("AWS_SHARED_CREDENTIALS_FILE", "/.aws/credentials", path,
                   sizeof path);
    if (!err)
        err = read_file(path, false, name, wants_keys, ret, &found, why);
    if (!err || err == ENOENT)
        err = add_home("AWS_CONFIG_FILE", "/.aws/config", path, sizeof path);
    if (!err)
        err = read_file(path, true, name, wants_keys, ret, &found, why);
    if (err == ENOENT)
        err = 0; /* no home, no files */
    if (!err && wanted && !found) {
        snprintf(why, CREDENTIALS_WHY_MAX,
                 "there is no profile %.60s in the credentials and config "
                 "files",
                 name);
        err = EINVAL;
    }
    return err;
}

static int load_environment(struct credentials *ret,
                            char why[CREDENTIALS_WHY_MAX])
{
    const char *access_key = variable("AWS_ACCESS_KEY_ID");
    const char *secret_key = variable("AWS_SECRET_ACCESS_KEY");

    if (!access_key && !secret_key)
        return 0;
    if (!access_key || !secret_key) {
        snprintf(why, CREDENTIALS_WHY_MAX, "%s is set, but not %s",
                 access_key ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY",
                 access_key ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID");
        return EINVAL;
    }
    return set_keys(ret, access_key, secret_key, variable("AWS_SESSION_TOKEN"),
                    "the environment");
}

int credentials_load(const char *profile, struct credentials *ret,
                     char why[CREDENTIALS_WHY_MAX])
{
    const char *wanted =
        profile ? profile
                : first_variable("AWS_PROFILE", "AWS_DEFAULT_PROFILE");
    int err = 0;

    memset(ret, 0, sizeof *ret);
    why[0] = '\0';
    if (!profile)
        err = load_environment(ret, why);
    if (!err && (set(&ret->region,
                     first_variable("AWS_REGION", "AWS_DEFAULT_REGION")) ||
                 set(&ret->endpoint, first_variable("AWS_ENDPOINT_URL_S3",
                                                    "AWS_ENDPOINT_URL"))))
        err = ENOMEM;
    if (!err)
        err = read_files(wanted, wanted ? wanted : "default", !ret->access_key,
                         ret, why);
    if (!err && !ret->access_key) {
        snprintf(why, CREDENTIALS_WHY_MAX,
                 "no credentials: set AWS_ACCESS_KEY_ID and "
                 "AWS_SECRET_ACCESS_KEY, or put a profile into "
                 "~/.aws/credentials");
        err = ENOENT;
    }
    if (err && !why[0])
        snprintf(why, CREDENTIALS_WHY_MAX, "credentials: %s",
                 strerrordesc_np(err));
    return err;
}
