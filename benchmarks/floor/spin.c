/*
 * Spin's generated checker (pan.c, from protocol.pml) as a floor: it runs to its end, its own report is dropped, and a
 * line says how long a state took and how many there are.
 */
#define main pan_main
#include "pan.c"
#undef main

#include <sys/resource.h>

static int out;

static void report(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    double ns = 1e9 * (u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e3 * (u.ru_utime.tv_usec + u.ru_stime.tv_usec);
    dprintf(out, "states\t%.3f\t%.0f\n", ns / nstates, nstates);
}

int main(void)
{
    static char *args[] = { "pan", "-m2000000", NULL };
    out = dup(1);
    if (freopen("/dev/null", "w", stdout) == NULL) return 1;
    atexit(report);
    return pan_main(2, args);
}
