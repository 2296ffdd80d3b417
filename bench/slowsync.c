/* A disk whose sync takes SLOWSYNC_MS milliseconds: loaded into a target with LD_PRELOAD.
 * Build: gcc -shared -fPIC -o slowsync.so slowsync.c */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static void wait_for_it(void)
{
    const char *text = getenv("SLOWSYNC_MS");
    long ms = text ? atol(text) : 0;
    struct timespec left = {ms / 1000, (ms % 1000) * 1000000L};

    while (nanosleep(&left, &left) != 0)
        ;
}

static int real(const char *name, int fd)
{
    int (*call)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);

    wait_for_it();
    return call(fd);
}

int fsync(int fd) { return real("fsync", fd); }

int fdatasync(int fd) { return real("fdatasync", fd); }
