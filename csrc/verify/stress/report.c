/* Prints the results, as one JSON object, on standard output. */
#include <stdio.h>

#include "verify/stress/stress.h"
#include "verify/supervised.h"

static const char *const kind_name[STRESS_KINDS + 1] = {
    "main thread",    "registered thread", "unregistered thread", "vforking thread",  "vfork child",
    "forking thread", "fork child",        "short-lived thread",  "colliding thread", "unknown",
};
static const char *const context_name[STRESS_CONTEXTS] = {"", "signal handler", "signal handler in a signal handler"};
static const char *const sharing_name[] = {"unknown", "shared", "own"};

struct totals {
    uint64_t added[RSM_SUBJECT_COUNTERS];
    uint64_t adds, pushes, pops, empty, fast, fallback, aborts, signals, moves, registered, unprotected;
};

static void add_up(struct totals *totals)
{
    *totals = (struct totals){0};
    for (uint32_t i = 0; i < stress->writers; i++) {
        const struct stress_writer *writer = &stress->writer[i];
        totals->registered += writer->registered;
        totals->unprotected += writer->unprotected;
        for (int context = 0; context < STRESS_CONTEXTS; context++) {
            const struct stress_book *book = &writer->book[context];
            for (unsigned counter = 0; counter < RSM_SUBJECT_COUNTERS; counter++)
                totals->added[counter] += book->added[counter];
            totals->adds += book->adds;
            totals->pushes += book->pushes;
            totals->pops += book->pops;
            totals->empty += book->empty;
            totals->fast += book->fast;
            totals->fallback += book->fallback;
            totals->aborts += book->aborts;
            totals->signals += book->signals;
            totals->moves += book->moves;
        }
    }
}

static void number(const char *name, uint64_t value)
{
    printf("\"%s\": %llu, ", name, (unsigned long long)value);
}

static void report_counters(const struct totals *totals)
{
    const char *separator = "";
    printf("\"counters\": [");
    for (unsigned i = 0; i < RSM_SUBJECT_COUNTERS; i++) {
        printf("%s[%llu, %llu]", separator, (unsigned long long)totals->added[i], (unsigned long long)stress->sum[i]);
        separator = ", ";
    }
    printf("], ");
}

/* What each writer did, and whether it was still at work when the report was made. */
static void report_kinds(void)
{
    const char *separator = "";
    printf("\"writers\": [");
    for (uint32_t i = 0; i < stress->writers; i++) {
        const struct stress_writer *writer = &stress->writer[i];
        uint64_t adds = 0, signals = 0, fast = 0;
        for (int context = 0; context < STRESS_CONTEXTS; context++) {
            adds += writer->book[context].adds;
            signals += writer->book[context].signals;
            fast += writer->book[context].fast;
        }
        printf("%s{\"kind\": \"%s\", ", separator, kind_name[writer->kind]);
        number("entered", writer->entered);
        number("registered", writer->registered);
        number("adds", adds);
        number("fast", fast);
        number("signals", signals);
        number("unprotected", writer->unprotected);
        printf("\"context\": \"%s\", \"at_work\": %s}", context_name[writer->context], writer->tid ? "true" : "false");
        separator = ", ";
    }
    printf("], ");
}

static void report_crash(const struct supervised *outcome)
{
    const struct stress_crash *crash = &stress->crash;
    int signal = crash->signal ? crash->signal : outcome->signal;
    if (!signal) {
        printf("\"crash\": null, ");
        return;
    }
    printf("\"crash\": {\"signal\": %d, \"kind\": \"%s\", \"context\": \"%s\", ", signal,
           kind_name[crash->signal ? crash->kind : STRESS_KINDS], context_name[crash->context]);
    if (crash->instruction)
        printf("\"instruction\": %llu}, ", (unsigned long long)crash->instruction);
    else
        printf("\"instruction\": null}, ");
}

void stress_report(const struct supervised *outcome)
{
    static struct totals totals;
    add_up(&totals);
    printf("{");
    report_counters(&totals);
    report_kinds();
    report_crash(outcome);
    number("adds", totals.adds);
    number("pushes", totals.pushes);
    number("pops", totals.pops);
    number("empty", totals.empty);
    number("fast", totals.fast);
    number("fallback", totals.fallback);
    number("aborts", totals.aborts);
    number("signals", totals.signals);
    number("migrations", totals.moves);
    number("registered", totals.registered);
    number("unprotected", totals.unprotected);
    number("collisions", stress->collisions);
    printf("\"collisions_lost\": %lld, \"collisions_reason\": \"%s\", ", (long long)stress->collisions_lost,
           stress->collisions_reason);
    number("collision_commit", stress->collision_commit);
    number("collision_unprotected", stress->collision_unprotected);
    number("signals_sent", stress->signals_sent);
    number("affinities_set", stress->affinities_set);
    number("threads", stress->threads);
    number("short_lived_threads", stress->short_lived);
    number("key_destructors", stress->key_destructors);
    number("vfork_children", stress->vfork_children);
    number("fork_children", stress->fork_children);
    number("own_attempted", stress->own_attempted);
    number("own_lost", stress->own_lost);
    number("own_doubled", stress->own_doubled);
    number("nodes_lost", stress->nodes_lost);
    number("nodes_doubled", stress->nodes_doubled);
    number("nodes_foreign", stress->nodes_foreign);
    number("enrolled", stress->enrolled);
    number("enroll_error", (uint64_t)stress->enroll_error);
    number("cpus", stress->cpus);
    printf("\"fork_data\": \"%s\", \"fork_data_reason\": \"%s\", ", sharing_name[stress->sharing],
           stress->sharing_reason);
    printf("\"hung\": %s, \"finished\": %s, ", outcome->hung ? "true" : "false", stress->finished ? "true" : "false");
    printf("\"status\": %d, \"seconds\": %.3f}\n", outcome->status, stress->seconds);
}
