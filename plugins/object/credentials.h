/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Who we are to S3: from the environment and the files that all of Amazon's
 * tools share.
 *
 * Keys: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (with AWS_SESSION_TOKEN),
 * unless a profile was named by the parameter; else the profile (profile=,
 * AWS_PROFILE, AWS_DEFAULT_PROFILE, "default") in the credentials file
 * (AWS_SHARED_CREDENTIALS_FILE, ~/.aws/credentials), then in the config file
 * (AWS_CONFIG_FILE, ~/.aws/config, there as "[profile NAME]" or "[default]").
 * credential_process in the profile is run and its JSON is read (version 1).
 * Region: AWS_REGION, AWS_DEFAULT_REGION, "region" of the profile.  Endpoint:
 * AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, "endpoint_url" of the profile.
 *
 * Reads files, may run a program: never on a loop. */
#ifndef ABD_OBJECT_CREDENTIALS_H
#define ABD_OBJECT_CREDENTIALS_H

#include <stdint.h>

#define CREDENTIALS_WHY_MAX 256

/* Strings are its own; NULL: not said anywhere. */
struct credentials {
    char *access_key, *secret_key, *session_token;
    uint64_t expires_s; /* since 1970; 0: not known */
    char *region, *endpoint;
    char *source; /* for people: which file and profile, or "the environment" */
};

/* profile: NULL for the default.  0, or an errno value with why for people
 * (which names the file and line, the profile and the variable, never the
 * secret): ENOENT: there are none (keys are NULL then; region and endpoint may
 * be there); EINVAL: a file or a program's output can't be understood, or the
 * profile named by the parameter or a variable is in no file; others as the
 * files say.  *ret is to be finished in every case. */
int credentials_load(const char *profile, struct credentials *ret,
                     char why[CREDENTIALS_WHY_MAX]);
/* Wipes the secrets. */
void credentials_finish(struct credentials *credentials);

#endif
