/* What is around a process: descriptors, files, limits. */
#include "attack.h"
#include "kernel.h"

#include "../process/hardening.h"
#include "../process/wire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int done(bool success)
{
    return success ? 0 : UNABLE;
}

/* Names of the host's folder. */
static void name_in(const struct attack *attack, const char *name, char path[static 300])
{
    snprintf(path, 300, "%s/%s", attack->folder, name);
}

ATTACK(close_descriptor)
{
    return done(close((int)attack->descriptor) == 0);
}

ATTACK(close_all_descriptors)
{
    for (int fd = 3; fd < 1024; fd++) {
        close(fd);
    }
    return 0;
}

ATTACK(write_to_all_descriptors) /* that are pipes, as an answer of a process behind one would be */
{
    uint8_t marks[4 * CANARY_LENGTH];
    memset(marks, 0x66, sizeof(marks));
    for (int fd = 3; fd < 256; fd++) {
        struct stat status;
        if (fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode) &&
            write(fd, marks, sizeof(marks)) < 0) {
            continue; /* one to read from */
        }
    }
    return 0;
}

/* A hardened process is told by its filter, whatever it asks, that there is no room to move to. */
static bool is_hardened(void)
{
    enum { PAGE = 4096 };
    uintptr_t stack = (uintptr_t)__builtin_frame_address(0) & ~(uintptr_t)(PAGE - 1);
    return kernel_call(SYS_mremap, stack, PAGE, PAGE, 0) == -ENOMEM;
}

/* An answer before the real one, of the right form and with the right number of the call: to the
 * one descriptor that a hardened process has for it, or to all pipes. */
ATTACK(forge_answer)
{
    struct {
        struct wire_header header;
        uint8_t output[CANARY_LENGTH];
    } answer = {.header = {.call = (uint32_t)attack->argument, .length = CANARY_LENGTH}};
    memset(answer.output, 0x66, sizeof(answer.output));
    if (is_hardened()) {
        kernel_call(SYS_write, HARDENED_REPLY, &answer, sizeof(answer));
        return 0;
    }
    for (int fd = 3; fd < 256; fd++) {
        struct stat status;
        if (fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode)) {
            kernel_call(SYS_write, fd, &answer, sizeof(answer));
        }
    }
    return 0;
}

ATTACK(chdir)
{
    return done(chdir("/") == 0);
}

ATTACK(umask)
{
    umask(0);
    return 0;
}

ATTACK(setenv)
{
    return done(setenv("ISOBENCH_CANARY", "changed", 1) == 0);
}

ATTACK(setrlimit)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_STACK, &limit) != 0) {
        return UNABLE;
    }
    limit.rlim_cur /= 2;
    return done(setrlimit(RLIMIT_STACK, &limit) == 0);
}

ATTACK(create_file)
{
    char path[300];
    name_in(attack, "created", path);
    int file = open(path, O_WRONLY | O_CREAT, 0600);
    if (file < 0) {
        return UNABLE;
    }
    close(file);
    return 0;
}

ATTACK(write_file)
{
    char path[300];
    name_in(attack, "file", path);
    int file = open(path, O_WRONLY);
    if (file < 0) {
        return UNABLE;
    }
    ssize_t written = write(file, "changed", 7);
    close(file);
    return done(written == 7);
}

ATTACK(read_file) /* that nobody told it of */
{
    char path[300];
    name_in(attack, "secret", path);
    int file = open(path, O_RDONLY);
    if (file < 0) {
        return UNABLE;
    }
    uint8_t *told = malloc(CANARY_LENGTH);
    ssize_t length = told == NULL ? -1 : read(file, told, CANARY_LENGTH);
    close(file);
    if (length <= 0) {
        free(told);
        return UNABLE;
    }
    *output = (struct iso_bytes){told, (size_t)length};
    return 0;
}

ATTACK(unlink)
{
    char path[300];
    name_in(attack, "file", path);
    return done(unlink(path) == 0);
}

ATTACK(send_by_socket)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%.90s/socket", attack->folder);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (fd < 0) {
        return UNABLE;
    }
    ssize_t sent = sendto(fd, "changed", 7, 0, (struct sockaddr *)&address, sizeof(address));
    close(fd);
    return done(sent == 7);
}

ATTACK(execute) /* another program instead */
{
    char *const arguments[] = {(char *)(uintptr_t)"true", NULL};
    execv("/bin/true", arguments);
    return UNABLE;
}
