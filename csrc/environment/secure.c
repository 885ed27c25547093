/* Starts a program that gets more privileges than its user has, for which the kernel sets AT_SECURE and ld.so ignores
 * the tunables: in a mount namespace of its own, so that nothing of the host is changed.
 *
 *   secure SCRATCH LIBRARIES DIRECTORY SUBJECT -- [NAME=VALUE]... -- PROGRAM [ARGUMENT]...
 *
 * A tmpfs is mounted at SCRATCH, and the working directory's files are copied into it: root's programs get another
 * group and the set-group-id bit, other users' a file capability; shared objects the set-user-id bit, without which
 * ld.so preloads nothing in secure mode (ld.so(8)). LIBRARIES, where ld.so looks in secure mode, is overlaid with them.
 * The program starts in DIRECTORY; "": in that of the copied programs. SUBJECT is the path of one more shared object,
 * which is found under the name by which the scenarios' objects need it; "": none.
 *
 * Without CAP_SYS_ADMIN the mounts are made in a user namespace of its own. The program starts in another one below it,
 * because file capabilities do not set AT_SECURE for a process that is root in its namespace (security/commoncap.c,
 * cap_bprm_creds_from_file); they are honoured there, because they are those of a namespace above
 * (rootid_owns_currentns). */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "environment/become.h"
#include "environment/user_namespace.h"

#define OTHER_USER 65534
#define OTHER_GROUP 65534
#define PROGRAM_MODE 02755
#define OBJECT_MODE 04755
#define SUBJECT_NAME "rsm_subject.so"

static int is_object(const char *name)
{
    return strstr(name, ".so") != NULL;
}

static int in_user_namespace;

/* Gives a program a file capability; which one does not matter. Returns 0, or -1 with errno set. */
static int add_capability(int program)
{
    struct vfs_cap_data data = {.magic_etc = VFS_CAP_REVISION_2};
    data.data[0].permitted = 1u << CAP_NET_BIND_SERVICE;
    return fsetxattr(program, "security.capability", &data, XATTR_CAPS_SZ_2, 0);
}

/* Returns 0, or -1 with errno set. */
static int add_rights(int file, int object)
{
    if (object)
        return fchmod(file, OBJECT_MODE);
    if (in_user_namespace)
        return add_capability(file);
    return fchown(file, (uid_t)-1, OTHER_GROUP) != 0 ? -1 : fchmod(file, PROGRAM_MODE);
}

/* Returns 0, or -1 with errno set. */
static int copy(int from, const char *path, int to, const char *name)
{
    struct stat about;
    int in = openat(from, path, O_RDONLY | O_CLOEXEC), out = -1, failed = 1;
    if (in >= 0 && fstat(in, &about) == 0)
        out = openat(to, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    if (out >= 0) {
        off_t at = 0;
        while (at < about.st_size && sendfile(out, in, &at, (size_t)(about.st_size - at)) > 0)
            ;
        failed = at < about.st_size || add_rights(out, is_object(name)) != 0;
    }
    close(in);
    close(out);
    return failed ? -1 : 0;
}

/* Copies the regular files of the working directory: programs to `programs`, objects to `objects`. */
static int copy_all(int programs, int objects)
{
    DIR *directory = opendir(".");
    struct dirent *entry;
    int failed = directory == NULL;
    while (!failed && (entry = readdir(directory)))
        if (entry->d_type == DT_REG)
            failed = copy(dirfd(directory), entry->d_name, is_object(entry->d_name) ? objects : programs,
                          entry->d_name) != 0;
    if (directory)
        closedir(directory);
    return failed ? -1 : 0;
}

static int open_new_directory(const char *scratch, const char *name, char *path, size_t size)
{
    snprintf(path, size, "%s/%s", scratch, name);
    return mkdir(path, 0755) == 0 ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

/* Enters a mount namespace of its own, whose mounts are not propagated. Returns 0, or -1 with errno set. */
static int enter_own_mounts(void)
{
    if (unshare(CLONE_NEWNS) != 0) {
        in_user_namespace = errno == EPERM && rsm_enter_user_namespace(0, 0, CLONE_NEWNS) == 0;
        if (!in_user_namespace)
            return -1;
    }
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

static int prepare(const char *scratch, const char *libraries, const char *start, const char *subject)
{
    char programs[4096], objects[4096], layers[8300];
    uid_t user = geteuid() ? geteuid() : OTHER_USER;
    gid_t group = getegid();
    if (enter_own_mounts() != 0 || mount("tmpfs", scratch, "tmpfs", 0, "mode=755") != 0)
        return -1;
    int to_programs = open_new_directory(scratch, "programs", programs, sizeof(programs));
    int to_objects = open_new_directory(scratch, "objects", objects, sizeof(objects));
    if (to_programs < 0 || to_objects < 0 || copy_all(to_programs, to_objects) != 0)
        return -1;
    if (*subject && copy(AT_FDCWD, subject, to_objects, SUBJECT_NAME) != 0)
        return -1;
    snprintf(layers, sizeof(layers), "lowerdir=%s:%s", objects, libraries);
    if (mount("overlay", libraries, "overlay", MS_RDONLY, layers) != 0)
        return -1;
    if (in_user_namespace && rsm_enter_user_namespace(user, group, 0) != 0)
        return -1;
    return chdir(*start ? start : programs);
}

int main(int argc, char **argv)
{
    if (argc < 6 || strcmp(argv[5], "--") != 0) {
        errno = EINVAL;
        return rsm_become_failed("arguments");
    }
    if (prepare(argv[1], argv[2], argv[3], argv[4]) != 0)
        return rsm_become_failed("a mount namespace with a program that has more rights");
    return rsm_become(argc, argv, 6);
}
