/*
 * QEMU TCG plug-in: executions and taken edges of every translation block, per counted region.
 *
 *   -plugin block_counts.so,out=FILE,begin=LO:HI,end=LO:HI
 *   -plugin block_counts.so,out=FILE,from=ADDRESS[,to=ADDRESS]
 *
 * LO:HI (hexadecimal) are the addresses of dtmm_region_begin and dtmm_region_end. Counting starts
 * when control leaves the first and stops when it enters the second; blocks of the markers are
 * never counted. In firmware without markers there is one region: it begins the first time that
 * control reaches `from`, and ends before `to` or with the machine. FILE gets, per region, `REGION <ordinal>` and one line per executed block
 *
 *   <pc> <end> <instructions> <executions> <taken>
 *
 * (addresses in hexadecimal) and, when the machine stops in good order, `DONE <regions>`. An edge
 * is taken when the next counted block does not start where the block ends.
 *
 * Debian ships no qemu-plugin.h, so the functions used are declared here. They are the same in
 * every API version that PLUGIN_API_VERSION may name; the builder picks the one QEMU accepts.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { CALLBACK_READS_NO_REGISTERS = 0 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(
    qemu_plugin_id_t id, void (*callback)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(
    struct qemu_plugin_tb *tb, void (*callback)(unsigned, void *), int flags, void *data);
extern void qemu_plugin_register_atexit_cb(
    qemu_plugin_id_t id, void (*callback)(qemu_plugin_id_t, void *), void *data);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(
    const struct qemu_plugin_tb *tb, size_t index);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);

EXPORT int qemu_plugin_version = PLUGIN_API_VERSION;

struct block {
    uint64_t pc, end, instructions, executions, taken;
    struct block *next_in_bucket, *next;
};
struct range {
    uint64_t low, high;
};

enum { BUCKETS = 1 << 14 };
static struct block *buckets[BUCKETS];
static struct block *first_block;
static struct block entry; /* stands before a region's first block: has no edge of its own */
static struct block *previous;
static bool active;
static uint64_t regions;
static struct range begin_marker, end_marker;
static uint64_t from = UINT64_MAX, to = UINT64_MAX;
static FILE *out;

static bool within(struct range range, uint64_t address) {
    return address >= range.low && address < range.high;
}

static void on_begin(unsigned vcpu, void *data) {
    (void)vcpu, (void)data;
    active = true;
    previous = &entry;
}

static void on_end(unsigned vcpu, void *data) {
    (void)vcpu, (void)data;
    if (!active) {
        return;
    }
    active = false;
    fprintf(out, "REGION %" PRIu64 "\n", regions++);
    for (struct block *b = first_block; b != NULL; b = b->next) {
        if (b->executions != 0) {
            fprintf(out, "%" PRIx64 " %" PRIx64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", b->pc,
                    b->end, b->instructions, b->executions, b->taken);
            b->executions = b->taken = 0;
        }
    }
}

static void on_block(unsigned vcpu, void *data) {
    (void)vcpu;
    struct block *const block = data;
    if (!active) {
        return;
    }
    block->executions++;
    previous->taken += previous->end != block->pc;
    previous = block;
}

static void on_from(unsigned vcpu, void *data) {
    if (regions == 0 && !active) {
        on_begin(vcpu, data);
    }
}

/* A block may be translated again, under other CPU flags or after a flush: one record serves all. */
static struct block *record(uint64_t pc, uint64_t instructions, uint64_t end) {
    struct block **const bucket = &buckets[(pc >> 1) % BUCKETS];
    for (struct block *b = *bucket; b != NULL; b = b->next_in_bucket) {
        if (b->pc == pc && b->instructions == instructions) {
            return b;
        }
    }
    struct block *const b = calloc(1, sizeof *b);
    if (b == NULL) {
        fprintf(stderr, "block_counts: out of memory\n");
        exit(1);
    }
    *b = (struct block){pc, end, instructions, 0, 0, *bucket, first_block};
    *bucket = b;
    first_block = b;
    return b;
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    const uint64_t pc = qemu_plugin_tb_vaddr(tb);
    if (within(begin_marker, pc)) {
        qemu_plugin_register_vcpu_tb_exec_cb(tb, on_begin, CALLBACK_READS_NO_REGISTERS, NULL);
    } else if (within(end_marker, pc)) {
        qemu_plugin_register_vcpu_tb_exec_cb(tb, on_end, CALLBACK_READS_NO_REGISTERS, NULL);
    } else {
        const size_t count = qemu_plugin_tb_n_insns(tb);
        const struct qemu_plugin_insn *const last = qemu_plugin_tb_get_insn(tb, count - 1);
        const uint64_t end = qemu_plugin_insn_vaddr(last) + qemu_plugin_insn_size(last);
        struct block *const b = record(pc, count, end);
        if (pc == from) {
            qemu_plugin_register_vcpu_tb_exec_cb(tb, on_from, CALLBACK_READS_NO_REGISTERS, NULL);
        }
        if (pc == to) {
            qemu_plugin_register_vcpu_tb_exec_cb(tb, on_end, CALLBACK_READS_NO_REGISTERS, NULL);
        }
        qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, CALLBACK_READS_NO_REGISTERS, b);
    }
}

static void on_shutdown(qemu_plugin_id_t id, void *data) {
    (void)id;
    if (from != UINT64_MAX) {
        on_end(0, data); /* nothing when `to` has ended the region */
    }
    fprintf(out, "DONE %" PRIu64 "\n", regions);
    fclose(out);
}

static bool parse_range(const char *text, struct range *range) {
    return sscanf(text, "%" SCNx64 ":%" SCNx64, &range->low, &range->high) == 2;
}

EXPORT int qemu_plugin_install(
    qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
    (void)info;
    const char *path = NULL;
    bool good = true;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            path = argv[i] + 4;
        } else if (strncmp(argv[i], "begin=", 6) == 0) {
            good = good && parse_range(argv[i] + 6, &begin_marker);
        } else if (strncmp(argv[i], "end=", 4) == 0) {
            good = good && parse_range(argv[i] + 4, &end_marker);
        } else if (strncmp(argv[i], "from=", 5) == 0) {
            good = good && sscanf(argv[i] + 5, "%" SCNx64, &from) == 1;
        } else if (strncmp(argv[i], "to=", 3) == 0) {
            good = good && sscanf(argv[i] + 3, "%" SCNx64, &to) == 1;
        } else {
            good = false;
        }
    }
    if (!good || path == NULL) {
        fprintf(stderr, "block_counts: want out=FILE and begin=LO:HI,end=LO:HI or from=\n");
        return 1;
    }
    out = fopen(path, "w");
    if (out == NULL) {
        fprintf(stderr, "block_counts: cannot write %s\n", path);
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_atexit_cb(id, on_shutdown, NULL);
    return 0;
}
