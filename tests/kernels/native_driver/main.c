/* The library's own cases, with nothing but the library: under sanitizers, and on processors that
 * are emulated.
 *
 *   driver variants                numbers of the variants that run here
 *   driver PLACE                   run all cases; 0 if all are right
 *   driver PLACE BUFFER product OUTPUTS KIND VARIANT
 *   driver PLACE BUFFER packing CHANNELS LAYOUT VARIANT
 *                                  one job, whose buffer of this name is a word too short
 *
 * PLACE is heap, end or start; see fences.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bitfront_native.h"
#include "cases.h"
#include "fences.h"

uint32_t draw(void) {
    static uint64_t state = 0x9E3779B97F4A7C15u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

float uniform(void) { return (float)(int32_t)draw() / 2147483648.0f; }

void *zeroed(size_t bytes) {
    void *memory = calloc(1, bytes);
    if (!memory) abort();
    return memory;
}

uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static int place_of(const char *name) {
    return !strcmp(name, "heap") ? HEAP : !strcmp(name, "end") ? END : START;
}

int main(int count, char **arguments) {
    if (count == 2 && !strcmp(arguments[1], "variants")) {
        for (int variant = BF_PORTABLE; variant <= BF_AVX512; variant++)
            if (bf_has_variant(variant)) printf("%d\n", variant);
        return 0;
    }
    if (count != 2 && count != 7) return 2;
    lay_buffers(place_of(arguments[1]));
    if (count == 7) {
        const int size = atoi(arguments[4]), option = atoi(arguments[5]), variant = atoi(arguments[6]);
        shorten(arguments[2]);
        if (!strcmp(arguments[3], "product")) run_one_product(size, option, variant);
        else run_one_packing(size, option, variant);
        return 0;
    }
    const int wrong = check_products() + check_packing() + check_refusals();
    if (wrong) fprintf(stderr, "%d cases are wrong\n", wrong);
    return wrong != 0;
}
