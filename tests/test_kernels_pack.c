/* test_kernels_pack.c - the packs of kernels/ move hardly a byte more than they must, in as few
 * launches as they can.
 *
 * One launch is possible where what is sent of an entry depends on its tile alone: identity, bf16,
 * sign with a scale a group, top-k of chunks. A scale of the whole tensor, and the largest entries
 * of it, are known only when all of it was read. COG_TEST_TABLE=1 shows the figures. */
#include "quantizer_pair.h"

enum { LARGE = 1 << 20 };

/* The floor in bytes an entry: 4 for every term of the message and for the residual, read and
 * written, what is sent, and 8 more, or 4 for top-k, for what a second pass moves again. */
typedef struct traffic_case {
    const char *spec;
    int input;
    double floor;  /* without the message's terms and the payload */
    double factor; /* that may be reached */
    int launches;
    int message; /* which is looked at */
    int step;    /* between the numbers of terms that are tried, from 1 to 4 */
} traffic_case;

static const traffic_case traffic_cases[] = {
    {"identity", IN_NORMAL, 8, 1.05, 1, 0, 1},
    {"bf16", IN_NORMAL, 8, 1.05, 1, 0, 1},
    {"sign:scale=group", IN_NORMAL, 8, 1.05, 1, 0, 1},
    {"sign:scale=group,group=256", IN_NORMAL, 8, 1.05, 1, 0, 3},
    {"sign", IN_NORMAL, 16, 1.05, 2, 0, 1},
    {"qsgd", IN_NORMAL, 8, 1.05, 1, 0, 1},
    {"qsgd:bits=1,group=256", IN_NORMAL, 8, 1.05, 1, 0, 3},
    {"qsgd:bits=8,rounding=nearest", IN_NORMAL, 8, 1.05, 1, 0, 3},
    {"qsgd:norm=l2", IN_NORMAL, 8, 1.05, 1, 0, 3},
    {"fosgd", IN_NORMAL, 8, 1.05, 1, 0, 1},
    {"fosgd:block=256", IN_NORMAL, 8, 1.05, 1, 0, 3},
    {"topk:ratio=0.01", IN_NORMAL, 8, 1.10, 1, 0, 1},
    {"topk:ratio=0.01,values=bf16", IN_NORMAL, 8, 1.10, 1, 0, 3},
    {"topk:ratio=0.01", IN_EQUAL, 8, 1.10, 1, 0, 3},
    {"topk:ratio=0.01,kind=threshold", IN_NORMAL, 8, 1.10, 5, 1, 1},
    {"topk:ratio=0.01,kind=global", IN_NORMAL, 12, 1.15, 4, 0, 1},
    {"topk:ratio=0.001,kind=global", IN_NORMAL, 12, 1.15, 4, 0, 3},
    {"topk:ratio=0.01,kind=global", IN_LAPLACE, 12, 1.15, 4, 0, 3},
    /* what is lost here does not grow with the terms */
    {"topk:ratio=0.01,kind=global", IN_EQUAL, 12, 2, 4, 0, 4},
    {"topk:ratio=0.01,kind=global", IN_ZEROS, 12, 2, 4, 0, 4},
    {"topk:ratio=0.01,kind=global", IN_ONE_EXPONENT, 12, 2, 4, 0, 4},
    {"topk:ratio=0.01,kind=global", IN_SORTED, 12, 2, 4, 0, 4},
};

typedef struct traffic {
    double floor, touched, requested; /* bytes an entry; of sectors: once a launch, every time */
    int launches, bank_conflicts;
} traffic;

static traffic traffic_of(const sender *s, const traffic_case *c, int n_terms) {
    simt_counters k;
    simt_read_counters(&k);
    const double n = LARGE, sectors = 32 * (double)(k.load_sectors + k.store_sectors);
    const double sent = (double)cog_quantizer_used_bytes(&s->q, s->payload) / n;
    return (traffic){.floor = 4 * n_terms + c->floor + sent,
                     .touched = 32 * (double)(k.load_unique + k.store_unique) / n,
                     .requested = sectors / n,
                     .launches = (int)k.launches,
                     .bank_conflicts = (int)k.bank_conflicts};
}

static void check_traffic(cog_device *cpu, cog_device *gpu, const traffic_case *c, int n_terms) {
    sender s = sender_make(c->spec, LARGE, n_terms + 1, true, 0, 0);
    for (int message = 0; message <= c->message; message++) {
        sender_fill(&s, c->input, true, (uint32_t)message);
        pack_on_cpu(&s, cpu);
        simt_reset_counters();
        pack_on_gpu(&s, gpu);
    }
    const traffic t = traffic_of(&s, c, n_terms);
    const char *what = named(c->spec, LARGE, n_terms, c->input, 0, 0, true, c->message);
    if (getenv("COG_TEST_TABLE") != NULL)
        fprintf(stderr,
                "%-29s %-12s L=%d %d launches, floor %6.3f, touched %6.3f = %.3f, requested %6.3f "
                "= %.3f, %d conflicts\n",
                c->spec, ref_input_name[c->input], n_terms, t.launches, t.floor, t.touched,
                t.touched / t.floor, t.requested, t.requested / t.floor, t.bank_conflicts);
    compare(&s, what);
    cr_expect_eq(t.launches, c->launches, "%s: %d launches", what, t.launches);
    cr_expect_leq(t.touched, c->factor * t.floor, "%s: %g bytes an entry", what, t.touched);
    cr_expect_leq(t.requested, c->factor * t.floor, "%s: %g bytes an entry requested", what,
                  t.requested);
    if (strstr(c->spec, "kind=") == NULL) /* a stream: sectors are used to 95 % */
        cr_expect_leq(0.95 * t.requested, t.floor, "%s: %g bytes an entry requested", what,
                      t.requested);
    if (strstr(c->spec, "topk") == NULL)
        cr_expect_eq(t.bank_conflicts, 0, "%s: %d bank conflicts", what, t.bank_conflicts);
    sender_free(&s);
}

/* Cases that have `part` as the rest of their number, so that all tests take about as long. */
static void check_part(int part, int of) {
    cog_device *cpu = opened("cpu"), *gpu = opened(device_name);
    for (int c = part; c < (int)(sizeof(traffic_cases) / sizeof(*traffic_cases)); c += of)
        for (int n_terms = 1; n_terms <= 4; n_terms += traffic_cases[c].step)
            check_traffic(cpu, gpu, &traffic_cases[c], n_terms);
    cog_device_close(gpu);
    cog_device_close(cpu);
}

Test(kernels_pack, traffic_stays_near_the_floor_in_the_first_half) { check_part(0, 2); }
Test(kernels_pack, traffic_stays_near_the_floor_in_the_second_half) { check_part(1, 2); }
