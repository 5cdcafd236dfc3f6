// A file system that keeps silent (FUSE, version 7.31: include/uapi/linux/fuse.h), until it is killed:
//
//   silent FOLDER PROGRAM
//
// FOLDER/never answers nobody's reads; FOLDER/program is PROGRAM, and answers all reads but those of
// processes whose names begin with `rprof`. Says `ready` when it is mounted. Reads are small and
// synchronous, so that who waits is beyond every signal.
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROOT = 1, PROGRAM = 2, NEVER = 3 };

static char *bytes;
static long size;

static int is_rprof(unsigned pid) {
    char path[64], name[16] = "";
    snprintf(path, sizeof path, "/proc/%u/comm", pid);
    int file = open(path, O_RDONLY);
    if (file >= 0) {
        read(file, name, sizeof name - 1);
        close(file);
    }
    return strncmp(name, "rprof", 5) == 0;
}

static struct fuse_attr attributes(unsigned long node) {
    long length = node == PROGRAM ? size : node == NEVER ? 4096 : 0;
    unsigned mode = node == ROOT ? S_IFDIR | 0755 : S_IFREG | 0755;
    return (struct fuse_attr){.ino = node, .size = length, .mode = mode, .nlink = 1,
                              .blksize = 4096, .atime = 1, .mtime = 1, .ctime = 1};
}

static void answer(int fuse, unsigned long unique, int error, const void *body, unsigned long length) {
    static char out[256 << 10];
    struct fuse_out_header header = {sizeof header + length, error, unique};
    memcpy(out, &header, sizeof header);
    memcpy(out + sizeof header, body, length);
    // Who asked may have been killed meanwhile.
    (void)!write(fuse, out, header.len);
}

int main(int count, char **words) {
    if (count != 3)
        return 2;
    int program = open(words[2], O_RDONLY);
    struct stat status;
    if (program < 0 || fstat(program, &status) != 0)
        return 2;
    size = status.st_size;
    bytes = malloc(size);
    if (read(program, bytes, size) != size)
        return 2;
    int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    char options[64];
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse);
    if (fuse < 0 || mount("rprof-bench", words[1], "fuse", 0, options) != 0) {
        perror("fuse");
        return 2;
    }
    alarm(600);
    (void)!write(1, "ready\n", 6);
    static char request[256 << 10];
    while (read(fuse, request, sizeof request) > 0) {
        struct fuse_in_header *in = (void *)request;
        void *body = in + 1;
        int hostile = is_rprof(in->pid);
        switch (in->opcode) {
        case FUSE_INIT: {
            struct fuse_init_out out = {.major = 7, .minor = 31, .max_write = 128 << 10};
            answer(fuse, in->unique, 0, &out, sizeof out);
            break;
        }
        case FUSE_LOOKUP: {
            unsigned long node = strcmp(body, "program") == 0 ? PROGRAM : strcmp(body, "never") == 0 ? NEVER : 0;
            struct fuse_entry_out out = {.nodeid = node, .entry_valid = 3600, .attr_valid = 3600, .attr = attributes(node)};
            answer(fuse, in->unique, node ? 0 : -2, &out, node ? sizeof out : 0);
            break;
        }
        case FUSE_GETATTR: {
            struct fuse_attr_out out = {.attr_valid = 3600, .attr = attributes(in->nodeid)};
            answer(fuse, in->unique, 0, &out, sizeof out);
            break;
        }
        case FUSE_OPEN:
        case FUSE_OPENDIR: {
            // What rprof reads comes from no cache.
            struct fuse_open_out out = {.open_flags = FOPEN_KEEP_CACHE | (hostile ? FOPEN_DIRECT_IO : 0)};
            answer(fuse, in->unique, 0, &out, sizeof out);
            break;
        }
        case FUSE_READ: {
            struct fuse_read_in *wanted = body;
            if (in->nodeid != PROGRAM || hostile)
                break;
            long from = wanted->offset < size ? wanted->offset : size;
            long length = wanted->size < size - from ? wanted->size : size - from;
            answer(fuse, in->unique, 0, bytes + from, length);
            break;
        }
        case FUSE_STATFS: {
            struct fuse_statfs_out out = {0};
            answer(fuse, in->unique, 0, &out, sizeof out);
            break;
        }
        case FUSE_FLUSH:
        case FUSE_RELEASE:
        case FUSE_RELEASEDIR:
        case FUSE_ACCESS:
            answer(fuse, in->unique, 0, "", 0);
            break;
        case FUSE_FORGET:
        case FUSE_BATCH_FORGET:
        case FUSE_INTERRUPT:
            break;
        default:
            answer(fuse, in->unique, -38, "", 0);
        }
    }
}
