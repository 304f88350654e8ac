// What the floor programs share: time of this thread, and one line of output a row.
#ifndef BENCH_H
#define BENCH_H
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef uint64_t u64;
typedef uint32_t u32;
typedef uint16_t u16;
typedef uint8_t u8;

#define NOINLINE __attribute__((noinline))
#define FRAME_WORDS 512u // 64-bit words in a 4 KiB frame

/// CPU time of this thread, nanoseconds.
static double cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

/// `name<TAB>ns per operation<TAB>checksum`: the JavaScript side reads it and compares the checksum.
static void report(const char *name, double ns_per_op, u64 checksum)
{
    printf("%s\t%.3f\t%llu\n", name, ns_per_op, (unsigned long long)checksum);
    fflush(stdout);
}

/// xorshift32, the generator of src/base/rng.ts.
static u32 rng_state;
static inline u32 rng_next(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 17;
    rng_state ^= rng_state << 5;
    return rng_state;
}
#endif
