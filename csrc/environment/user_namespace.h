/* Enters user namespaces, where a process may not mount: in one of its own it has every capability over what it makes
 * there (user_namespaces(7)). */
#ifndef RSM_ENVIRONMENT_USER_NAMESPACE_H
#define RSM_ENVIRONMENT_USER_NAMESPACE_H

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* Returns 0, or -1 with errno set. */
static inline int rsm_write_text(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t size = file < 0 ? -1 : write(file, text, strlen(text));
    if (file >= 0)
        close(file);
    return size < 0 ? -1 : 0;
}

/* Enters a new user namespace, in which this process's user and group, the only ones that there are, are called `user`
 * and `group`; and with it the other new namespaces that `flags` name. Returns 0, or -1 with errno set. */
static inline int rsm_enter_user_namespace(uid_t user, gid_t group, int flags)
{
    char users[64], groups[64];
    snprintf(users, sizeof(users), "%u %u 1", user, geteuid());
    snprintf(groups, sizeof(groups), "%u %u 1", group, getegid());
    if (unshare(CLONE_NEWUSER | flags) != 0 || rsm_write_text("/proc/self/setgroups", "deny") != 0)
        return -1;
    int failed = rsm_write_text("/proc/self/uid_map", users) != 0 || rsm_write_text("/proc/self/gid_map", groups) != 0;
    return failed ? -1 : 0;
}

#endif
