#pragma once
/* Calls of glibc and Linux that Swift's Glibc module leaves out. */
#include <malloc.h>
#include <sys/prctl.h>
#include <sys/resource.h>

/* Passwords and rows in memory are not for a core file, nor for a debugger of the same user. */
static inline void weir_forbid_dumps(void) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/* How many files may be open at once, after the limit was raised as far as it may be. */
static inline unsigned long weir_raise_descriptors(unsigned long wanted) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return wanted;
    if (limit.rlim_cur < wanted && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
        setrlimit(RLIMIT_NOFILE, &limit);
        if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return wanted;
    }
    return limit.rlim_cur;
}
