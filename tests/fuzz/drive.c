/* drive.c - main of a target where there is no libFuzzer: so many mutated seeds.
 *
 *   fuzz_x RUNS
 *
 * A mutation flips, sets, copies, removes or inserts bytes, up to eight times over, or takes the
 * end of another seed. */
#include "fuzz.h"

static uint64_t state = 88172645463325252u;

static uint64_t draw(uint64_t below) { /* xorshift64 (Marsaglia 2003) */
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return below > 0 ? state % below : 0;
}

static size_t mutate(uint8_t *bytes, size_t n) {
    static const uint8_t odd[] = {0, 1, 0x7f, 0x80, 0xff, ',', '=', ':', ' ', '\n', '-', '9'};
    const size_t at = draw(n + 1), count = draw(9);
    switch (draw(6)) {
    case 0: /* flip */
        if (at < n) bytes[at] ^= (uint8_t)(1 << draw(8));
        return n;
    case 1: /* set */
        if (at < n) bytes[at] = draw(2) ? odd[draw(sizeof(odd))] : (uint8_t)draw(256);
        return n;
    case 2: /* cut */ return at;
    case 3: /* remove */
        if (at + count > n) return n;
        memmove(bytes + at, bytes + at + count, n - at - count);
        return n - count;
    case 4: /* insert */
        if (n + count > FUZZ_MOST) return n;
        memmove(bytes + at + count, bytes + at, n - at);
        memset(bytes + at, odd[draw(sizeof(odd))], count);
        return n + count;
    default: /* copy */
        if (at + count <= n && n > 0) memmove(bytes + draw(n - count + 1), bytes + at, count);
        return n;
    }
}

static size_t make_input(int n_seeds, uint8_t *out) {
    uint8_t other[FUZZ_MOST];
    size_t n = fuzz_seed((int)draw((uint64_t)n_seeds), out);
    for (uint64_t k = draw(9); k > 0; k--) n = mutate(out, n);
    if (draw(8) > 0) return n;
    const size_t m = fuzz_seed((int)draw((uint64_t)n_seeds), other), from = draw(m);
    const size_t tail = m - from, keep = n + tail > FUZZ_MOST ? FUZZ_MOST - tail : n;
    memcpy(out + keep, other + from, tail);
    return keep + tail;
}

int main(int argc, char **argv) {
    uint8_t input[FUZZ_MOST];
    int n_seeds = 0;
    const long runs = argc > 1 ? atol(argv[1]) : 1000;
    for (size_t n; (n = fuzz_seed(n_seeds, input)) > 0; n_seeds++) LLVMFuzzerTestOneInput(input, n);
    for (long i = 0; i < runs; i++) LLVMFuzzerTestOneInput(input, make_input(n_seeds, input));
    printf("%d seeds and %ld mutations passed\n", n_seeds, runs);
    return n_seeds == 0;
}
