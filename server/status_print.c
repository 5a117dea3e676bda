/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Printing the status: some lines about the whole, then tables.
 *
 * A table is a list of columns, each with a function that makes the text of a
 * cell from the object that the row is about.  Numbers are rounded to what fits
 * a column; who wants them exactly reads the JSON.  Main thread. */
#include "server/status_print.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/json_read.h"
#include "base/text.h"

/* The longest cell, with all its bytes. */
#define CELL 128

/* --- what is in the object --- */

static uint64_t number_of(const struct json_value *object, const char *key)
{
    const struct json_value *value = json_find(object, key);

    return value && value->type == JSON_NUMBER && value->whole ? value->number
                                                               : 0;
}

static const char *text_of(const struct json_value *object, const char *key)
{
    const struct json_value *value = json_find(object, key);

    return value && value->type == JSON_STRING ? value->text : NULL;
}

static bool is_true(const struct json_value *object, const char *key)
{
    const struct json_value *value = json_find(object, key);

    return value && value->type == JSON_BOOL && value->truth;
}

static const struct json_value *first_of(const struct json_value *object,
                                         const char *key)
{
    const struct json_value *value = json_find(object, key);

    return value ? value->first : NULL;
}

/* --- texts --- */

/* Three digits: 1.23, 12.3, 123. */
static void format_three(char *to, double value, const char *unit)
{
    int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;

    snprintf(to, CELL, "%.*f%s", decimals, value, unit);
}

/* Whole up to seven digits, then as 12.3M. */
static void format_count(char *to, uint64_t n)
{
    static const char *const units[] = {"k", "M", "G", "T", "P", "E"};
    double value = (double)n / 1000;
    unsigned unit = 0;

    if (n < 10000000) {
        snprintf(to, CELL, "%" PRIu64, n);
        return;
    }
    for (; value >= 999.5 && unit < 5; unit++)
        value /= 1000;
    format_three(to, value, units[unit]);
}

static void format_bytes(char *to, uint64_t n)
{
    static const char *const units[] = {"K", "M", "G", "T", "P", "E"};
    double value = (double)n / 1024;
    unsigned unit = 0;

    if (n < 1000) {
        snprintf(to, CELL, "%" PRIu64, n);
        return;
    }
    for (; value >= 999.5 && unit < 5; unit++)
        value /= 1024;
    format_three(to, value, units[unit]);
}

static void format_time(char *to, uint64_t ns)
{
    uint64_t seconds = ns / 1000000000;

    if (ns < 1000)
        snprintf(to, CELL, "%" PRIu64 "ns", ns);
    else if (ns < 999500)
        format_three(to, (double)ns / 1e3, "us");
    else if (ns < 999500000)
        format_three(to, (double)ns / 1e6, "ms");
    else if (seconds < 100)
        format_three(to, (double)ns / 1e9, "s");
    else if (seconds < 3600)
        snprintf(to, CELL, "%" PRIu64 "m%02us", seconds / 60,
                 (unsigned)(seconds % 60));
    else if (seconds < 100 * 3600)
        snprintf(to, CELL, "%" PRIu64 "h%02um", seconds / 3600,
                 (unsigned)(seconds / 60 % 60));
    else
        snprintf(to, CELL, "%" PRIu64 "d%02uh", seconds / 86400,
                 (unsigned)(seconds / 3600 % 24));
}

static unsigned count_characters(const char *text)
{
    unsigned n = 0;

    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

/* As much of a text from outside as fits into width columns. */
static void format_safely(char *to, const char *text, unsigned width)
{
    size_t left = text ? strlen(text) : 0, length = 0;
    unsigned columns = 0;

    if (!text) {
        strcpy(to, "?");
        return;
    }
    while (left > 0 && columns < width) {
        char shown[TEXT_SHOWN_MAX + 1];
        size_t bytes = text_show_next(&text, &left, shown);

        shown[bytes] = '\0';
        columns += count_characters(shown);
        if (columns > width || length + bytes >= CELL)
            break;
        memcpy(to + length, shown, bytes);
        length += bytes;
    }
    to[length] = '\0';
}

/* --- tables --- */

struct column {
    const char *title;
    int width; /* negative: to the left, with a blank behind it */
    void (*format)(char *to, const struct json_value *row,
                   const struct column *column);
    const char *key;
};

static unsigned width_of(const struct column *column)
{
    return (unsigned)(column->width < 0 ? -column->width : column->width);
}

static void cell_count(char *to, const struct json_value *row,
                       const struct column *column)
{
    format_count(to, number_of(row, column->key));
}

static void cell_bytes(char *to, const struct json_value *row,
                       const struct column *column)
{
    format_bytes(to, number_of(row, column->key));
}

static void cell_time(char *to, const struct json_value *row,
                      const struct column *column)
{
    format_time(to, number_of(row, column->key));
}

/* A time that need not be there. */
static void cell_age(char *to, const struct json_value *row,
                     const struct column *column)
{
    const struct json_value *value = json_find(row, column->key);

    if (value && value->type == JSON_NUMBER)
        cell_time(to, row, column);
    else
        strcpy(to, "-");
}

static void cell_text(char *to, const struct json_value *row,
                      const struct column *column)
{
    format_safely(to, text_of(row, column->key), width_of(column) - 1);
}

/* The name of a member. */
static void cell_key(char *to, const struct json_value *row,
                     const struct column *column)
{
    format_safely(to, row->key, width_of(column) - 1);
}

/* In quotes, so that the empty name is seen. */
static void cell_name(char *to, const struct json_value *row,
                      const struct column *column)
{
    const char *name = text_of(row, column->key);

    if (name)
        text_quote(name, strlen(name), to, width_of(column));
    else
        strcpy(to, "-");
}

/* The sum over all lanes of a disk. */
static void cell_lanes(char *to, const struct json_value *row,
                       const struct column *column)
{
    uint64_t n = 0;

    for (const struct json_value *lane = first_of(row, "lanes"); lane;
         lane = lane->next)
        n += number_of(lane, column->key);
    format_count(to, n);
}

static void print_cell(const char *text, const struct column *column)
{
    unsigned width = width_of(column), used = count_characters(text);
    int blanks = (int)(used < width ? width - used : 0);

    if (column->width < 0)
        printf("%s%*s", text, column[1].title ? blanks : 0, "");
    else
        printf("%*s%s", blanks, "", text);
}

static void print_titles(const struct column *columns)
{
    putchar('\n');
    for (const struct column *column = columns; column->title; column++)
        print_cell(column->title, column);
    putchar('\n');
}

static void print_row(const struct column *columns,
                      const struct json_value *row)
{
    for (const struct column *column = columns; column->title; column++) {
        char text[CELL] = "";

        column->format(text, row, column);
        print_cell(text, column);
    }
    putchar('\n');
}

/* --- what is shown --- */

static void print_requests(const struct json_value *status)
{
    char count[CELL], errors[CELL], flight[CELL], age[CELL];

    format_count(count, number_of(status, "requests"));
    format_count(errors, number_of(status, "errors"));
    format_count(flight, number_of(status, "requests_in_flight"));
    format_time(age, number_of(status, "oldest_ns"));
    printf("Requests  %s answered, %s of them with an error\n", count, errors);
    if (number_of(status, "requests_in_flight"))
        printf("          %s in flight, the oldest for %s\n", flight, age);
    else
        printf("          none in flight\n");
}

static void print_whole(const struct json_value *status)
{
    const struct json_value *memory = json_find(status, "memory");
    char a[CELL], b[CELL], c[CELL];

    format_safely(a, text_of(status, "abdkit"), 20);
    format_safely(b, text_of(status, "state"), 20);
    format_time(c, number_of(status, "uptime_ns"));
    printf("abdkit %s, process %" PRIu64 ", %s, up %s\n", a,
           number_of(status, "pid"), b, c);
    printf("Clients   %" PRIu64 " of at most %" PRIu64 "\n",
           number_of(status, "clients"), number_of(status, "max_connections"));
    print_requests(status);
    format_bytes(a, number_of(status, "bytes_read"));
    format_bytes(b, number_of(status, "bytes_written"));
    printf("Bytes     %s read, %s written\n", a, b);
    format_bytes(a, number_of(memory, "in_use"));
    format_bytes(b, number_of(memory, "charged"));
    format_bytes(c, number_of(memory, "budget"));
    printf("Memory    %s in buffers and %s elsewhere, of %s; ", a, b, c);
    printf("%" PRIu64 " wait for more\n", number_of(memory, "waiting"));
}

static void print_latency(const struct json_value *status)
{
    static const struct column columns[] = {
        {"LATENCY", -14, cell_key, NULL},
        {"REQUESTS", 10, cell_count, "count"},
        {"MEAN", 9, cell_time, "mean_ns"},
        {"P50", 9, cell_time, "p50_ns"},
        {"P90", 9, cell_time, "p90_ns"},
        {"P99", 9, cell_time, "p99_ns"},
        {"P99.9", 9, cell_time, "p99_9_ns"},
        {"MAX", 9, cell_time, "max_ns"},
        {NULL, 0, NULL, NULL},
    };
    bool any = false;

    for (const struct json_value *row = first_of(status, "latency"); row;
         row = row->next) {
        if (number_of(row, "count") == 0)
            continue;
        if (!any)
            print_titles(columns);
        any = true;
        print_row(columns, row);
    }
}

static void print_exports(const struct json_value *status)
{
    static const struct column columns[] = {
        {"EXPORT", -20, cell_name, "name"},
        {"SIZE", 6, cell_bytes, "size"},
        {"USERS", 7, cell_count, "users"},
        {"REQUESTS", 9, cell_count, "requests"},
        {"ERRORS", 8, cell_count, "errors"},
        {"READ", 6, cell_bytes, "bytes_read"},
        {"WRITTEN", 8, cell_bytes, "bytes_written"},
        {"FLIGHT", 7, cell_count, "requests_in_flight"},
        {"OLDEST", 8, cell_age, "oldest_ns"},
        {NULL, 0, NULL, NULL},
    };
    const struct json_value *row = first_of(status, "exports");

    if (row)
        print_titles(columns);
    for (; row; row = row->next)
        print_row(columns, row);
}

static void print_layers(const struct json_value *status)
{
    static const struct column columns[] = {
        {"LAYER", -16, cell_text, "layer"},
        {"EXPORT", -20, cell_name, "name"},
        {"STATE", -9, cell_text, "state"},
        {"IN FLIGHT", 10, cell_lanes, "in_flight"},
        {"WAITING", 9, cell_lanes, "waiting"},
        {"LENT", 8, cell_lanes, "lent"},
        {NULL, 0, NULL, NULL},
    };
    const struct json_value *top = first_of(status, "exports");
    const struct json_value *below = first_of(status, "disks");

    if (!top && !below)
        return;
    print_titles(columns);
    for (; top; top = top->next)
        print_row(columns, top);
    for (; below; below = below->next)
        print_row(columns, below);
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), of_end = strlen(end);

    return length >= of_end && strcmp(text + length - of_end, end) == 0;
}

/* "key value", by the unit that the key's end says; objects in brackets. */
static void print_detail(const struct json_value *value, const char *between)
{
    char key[CELL], text[CELL];

    format_safely(key, value->key, 40);
    if (value->type == JSON_OBJECT) {
        printf("%s%s (", between, key);
        for (const struct json_value *inner = value->first; inner;
             inner = inner->next)
            print_detail(inner, inner == value->first ? "" : ", ");
        putchar(')');
        return;
    }
    if (value->type == JSON_STRING)
        format_safely(text, value->text, 60);
    else if (value->type != JSON_NUMBER)
        return;
    else if (ends_with(value->key, "_ns"))
        format_time(text, value->number);
    else if (ends_with(value->key, "_bytes") ||
             strncmp(value->key, "bytes", 5) == 0)
        format_bytes(text, value->number);
    else
        format_count(text, value->number);
    printf("%s%s %s", between, key, text);
}

/* What plugins say of their disks: a line for each member. */
static void print_details_of(const struct json_value *disk)
{
    const struct json_value *member = first_of(disk, "details");
    char layer[CELL], name[CELL];

    if (!member || !text_of(disk, "layer") || !text_of(disk, "name"))
        return;
    format_safely(layer, text_of(disk, "layer"), 20);
    text_quote(text_of(disk, "name"), strlen(text_of(disk, "name")), name,
               sizeof name);
    printf("\nDETAILS of %s %s\n", layer, name);
    for (; member; member = member->next) {
        print_detail(member, "  ");
        putchar('\n');
    }
}

static void print_details(const struct json_value *status)
{
    for (const struct json_value *row = first_of(status, "exports"); row;
         row = row->next)
        print_details_of(row);
    for (const struct json_value *row = first_of(status, "disks"); row;
         row = row->next)
        print_details_of(row);
}

/* A line below the connection, if there is something to say. */
static void print_remarks(const struct json_value *connection)
{
    const char *state = text_of(connection, "state");
    const char *waits_for = text_of(connection, "waits_for");
    const char *between = "      ";
    char text[CELL];

    if (state && strcmp(state, "transmission") != 0) {
        format_safely(text, state, 20);
        printf("%s%s", between, text);
        between = ", ";
    }
    if (number_of(connection, "errors")) {
        format_count(text, number_of(connection, "errors"));
        printf("%serrors: %s", between, text);
        between = ", ";
    }
    if (number_of(connection, "memory")) {
        format_bytes(text, number_of(connection, "memory"));
        printf("%sholds %s", between, text);
        between = ", ";
    }
    if (waits_for) {
        format_safely(text, waits_for, 20);
        printf("%swaits for %s", between, text);
        between = ", ";
    }
    if (is_true(connection, "unread_replies")) {
        printf("%sdoes not read", between);
        between = ", ";
    }
    if (between[0] == ',')
        putchar('\n');
}

static void print_connections(const struct json_value *status)
{
    static const struct column columns[] = {
        {"ID", -6, cell_count, "id"},
        {"ADDRESS", -19, cell_text, "address"},
        {"EXPORT", -11, cell_name, "export"},
        {"AGE", 6, cell_time, "age_ns"},
        {"REQUESTS", 9, cell_count, "requests"},
        {"READ", 6, cell_bytes, "bytes_read"},
        {"WRITTEN", 8, cell_bytes, "bytes_written"},
        {"FLIGHT", 7, cell_count, "requests_in_flight"},
        {"OLDEST", 8, cell_age, "oldest_ns"},
        {NULL, 0, NULL, NULL},
    };
    const struct json_value *row = first_of(status, "connections");

    if (row)
        print_titles(columns);
    for (; row; row = row->next) {
        print_row(columns, row);
        print_remarks(row);
    }
}

static void print_loops(const struct json_value *status)
{
    static const struct column columns[] = {
        {"LOOP", -6, cell_count, "loop"},
        {"CLIENTS", 9, cell_count, "connections"},
        {"ACCEPTED", 10, cell_count, "accepted"},
        {"TURNS", 10, cell_count, "turns"},
        {"SLEEPS", 10, cell_count, "sleeps"},
        {"WAKE-UPS", 10, cell_count, "wakeups"},
        {"RECEIVES", 11, cell_count, "receives"},
        {"SENDS", 11, cell_count, "sends"},
        {NULL, 0, NULL, NULL},
    };
    const struct json_value *row = first_of(status, "loops");

    if (row)
        print_titles(columns);
    for (; row; row = row->next)
        print_row(columns, row);
}

void status_print(const struct json_value *status)
{
    print_whole(status);
    print_latency(status);
    print_exports(status);
    print_connections(status);
    print_layers(status);
    print_details(status);
    print_loops(status);
}
