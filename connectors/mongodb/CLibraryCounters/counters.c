#include "CLibraryCounters.h"

#ifdef __linux__
#include <stdio.h>
#include <unistd.h>

/* Where shm_open(3) of glibc and musl keeps what libmongoc names "/mongoc-PID"
   (mongoc-counters.c of libmongoc 1.23). */
static void remove_counters(void) {
    char path[64];
    snprintf(path, sizeof path, "/dev/shm/mongoc-%u", (unsigned)getpid());
    unlink(path);
}

/* Runs before the constructors of every library: what a killed process with our number left would
   be in libmongoc's way, and it would say so on standard error. */
__attribute__((section(".preinit_array"), used)) static void (*before_libraries)(void) =
    remove_counters;

/* Runs after them, before main: a process that is killed from here on leaves nothing. */
__attribute__((constructor)) static void after_libraries(void) { remove_counters(); }
#endif
