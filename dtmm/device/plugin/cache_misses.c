/*
 * QEMU TCG plug-in: a data cache in front of the simulated core, counted per region.
 *
 *   -plugin cache_misses.so,out=FILE,begin=LO:HI,end=LO:HI[,sets=N][,ways=N][,line=BYTES][,lru=1][,bypass=LO:HI]*[,trace=FILE]
 *
 * LO:HI (hexadecimal) of begin and end are the addresses of dtmm_region_begin and dtmm_region_end,
 * as in block_counts.c; bypass ranges are memory that the cache does not serve (a TCM). FILE gets,
 * per region,
 *
 *   REGION <ordinal> <reads> <writes> <read misses> <write misses> <bytes read> <bytes written>
 *
 * and, when the machine stops in good order, `DONE <regions>`. Reads and writes count an access of
 * each line once per instruction element as QEMU reports it; misses are whole lines; bytes are those
 * that loads and stores name, however often. Nothing counts that goes to a bypass. The cache is
 * write-back with write allocation, replacement is random from a fixed seed or, with lru=1, of the line
 * not used for longest, and it is empty when a region begins: what a region finds depends on nothing
 * that ran before it. The file `trace` gets what the cache was given: `REGION <ordinal>` after a
 * region's `<R or W> <address in hexadecimal> <bytes>`, one line per access, to check the cache with.
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
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { CALLBACK_READS_NO_REGISTERS = 0 };
enum { MEMORY_READ_AND_WRITE = 3 };

typedef void execution_callback(unsigned, void *);
typedef void memory_callback(unsigned, qemu_plugin_meminfo_t, uint64_t, void *);

extern void qemu_plugin_register_vcpu_tb_trans_cb(
    qemu_plugin_id_t id, void (*callback)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(
    struct qemu_plugin_tb *tb, execution_callback *callback, int flags, void *data);
extern void qemu_plugin_register_vcpu_mem_cb(
    struct qemu_plugin_insn *insn, memory_callback *callback, int flags, int rw, void *data);
extern void qemu_plugin_register_atexit_cb(
    qemu_plugin_id_t id, void (*callback)(qemu_plugin_id_t, void *), void *data);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(
    const struct qemu_plugin_tb *tb, size_t index);
extern bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t info);
extern unsigned qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t info);

EXPORT int qemu_plugin_version = PLUGIN_API_VERSION;

struct range {
    uint64_t low, high;
};
enum { READ, WRITE, KINDS };
enum { BYPASS_LIMIT = 8 };

/* [sets][ways], line number + 1; 0 is empty. With lru, the line used last comes first in its set. */
static uint64_t *tags;
static uint64_t sets = 256, ways = 4, line_bytes = 32, lru;
static uint32_t random_state;
static uint64_t accesses[KINDS], misses[KINDS], bytes[KINDS];
static bool active;
static uint64_t regions;
static struct range begin_marker, end_marker, bypass[BYPASS_LIMIT];
static unsigned bypasses;
static FILE *out, *trace;

static bool within(struct range range, uint64_t address) {
    return address >= range.low && address < range.high;
}

static uint32_t random_word(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

static void on_begin(unsigned vcpu, void *data) {
    (void)vcpu, (void)data;
    active = true;
    memset(tags, 0, sets * ways * sizeof *tags);
    memset(accesses, 0, sizeof accesses);
    memset(misses, 0, sizeof misses);
    memset(bytes, 0, sizeof bytes);
    random_state = 1;
}

static void on_end(unsigned vcpu, void *data) {
    (void)vcpu, (void)data;
    if (!active) {
        return;
    }
    active = false;
    const uint64_t counts[] = {accesses[READ], accesses[WRITE], misses[READ],
                               misses[WRITE],  bytes[READ],     bytes[WRITE]};
    fprintf(out, "REGION %" PRIu64, regions++);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        fprintf(out, " %" PRIu64, counts[i]);
    }
    fprintf(out, "\n");
    if (trace != NULL) {
        fprintf(trace, "REGION %" PRIu64 "\n", regions - 1);
    }
}

static void use(uint64_t *set, uint64_t way, uint64_t tag) {
    if (lru) {
        memmove(set + 1, set, way * sizeof *set);
        way = 0;
    }
    set[way] = tag;
}

static void touch(uint64_t line, int kind) {
    uint64_t *const set = tags + line % sets * ways;
    accesses[kind]++;
    uint64_t victim = ways;
    for (uint64_t way = 0; way < ways; way++) {
        if (set[way] == line + 1) {
            use(set, way, line + 1);
            return;
        }
        if (set[way] == 0) {
            victim = way;
        }
    }
    misses[kind]++;
    if (victim == ways) {
        victim = lru ? ways - 1 : random_word() % ways;
    }
    use(set, victim, line + 1);
}

static void on_access(
    unsigned vcpu, qemu_plugin_meminfo_t info, uint64_t address, void *data) {
    (void)vcpu, (void)data;
    if (!active) {
        return;
    }
    for (unsigned i = 0; i < bypasses; i++) {
        if (within(bypass[i], address)) {
            return;
        }
    }
    const int kind = qemu_plugin_mem_is_store(info) ? WRITE : READ;
    const uint64_t size = UINT64_C(1) << qemu_plugin_mem_size_shift(info);
    const uint64_t last = address + size - 1;
    bytes[kind] += size;
    if (trace != NULL) {
        fprintf(trace, "%c %" PRIx64 " %" PRIu64 "\n", "RW"[kind], address, size);
    }
    for (uint64_t line = address / line_bytes; line <= last / line_bytes; line++) {
        touch(line, kind);
    }
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    const uint64_t pc = qemu_plugin_tb_vaddr(tb);
    if (within(begin_marker, pc)) {
        qemu_plugin_register_vcpu_tb_exec_cb(tb, on_begin, CALLBACK_READS_NO_REGISTERS, NULL);
        return;
    }
    if (within(end_marker, pc)) {
        qemu_plugin_register_vcpu_tb_exec_cb(tb, on_end, CALLBACK_READS_NO_REGISTERS, NULL);
        return;
    }
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(tb, i), on_access,
                                         CALLBACK_READS_NO_REGISTERS, MEMORY_READ_AND_WRITE, NULL);
    }
}

static void on_shutdown(qemu_plugin_id_t id, void *data) {
    (void)id, (void)data;
    fprintf(out, "DONE %" PRIu64 "\n", regions);
    fclose(out);
    if (trace != NULL) {
        fclose(trace);
    }
}

static bool parse_range(const char *text, struct range *range) {
    return sscanf(text, "%" SCNx64 ":%" SCNx64, &range->low, &range->high) == 2;
}

static bool parse_argument(const char *text, const char **path, const char **trace_path) {
    if (strncmp(text, "out=", 4) == 0) {
        *path = text + 4;
        return true;
    }
    if (strncmp(text, "trace=", 6) == 0) {
        *trace_path = text + 6;
        return true;
    }
    if (strncmp(text, "begin=", 6) == 0) {
        return parse_range(text + 6, &begin_marker);
    }
    if (strncmp(text, "end=", 4) == 0) {
        return parse_range(text + 4, &end_marker);
    }
    if (strncmp(text, "bypass=", 7) == 0) {
        return bypasses < BYPASS_LIMIT && parse_range(text + 7, &bypass[bypasses++]);
    }
    return sscanf(text, "sets=%" SCNu64, &sets) == 1 ||
           sscanf(text, "ways=%" SCNu64, &ways) == 1 ||
           sscanf(text, "lru=%" SCNu64, &lru) == 1 ||
           sscanf(text, "line=%" SCNu64, &line_bytes) == 1;
}

EXPORT int qemu_plugin_install(
    qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
    (void)info;
    const char *path = NULL, *trace_path = NULL;
    bool good = true;
    for (int i = 0; i < argc; i++) {
        good = parse_argument(argv[i], &path, &trace_path) && good;
    }
    if (!good || path == NULL || sets == 0 || ways == 0 || line_bytes == 0) {
        fprintf(stderr, "cache_misses: want out=FILE,begin=LO:HI,end=LO:HI,sets=,ways=,line=\n");
        return 1;
    }
    tags = calloc(sets * ways, sizeof *tags);
    out = fopen(path, "w");
    trace = trace_path == NULL ? NULL : fopen(trace_path, "w");
    if (tags == NULL || out == NULL || (trace_path != NULL && trace == NULL)) {
        fprintf(stderr, "cache_misses: cannot write %s\n", trace_path == NULL ? path : trace_path);
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_atexit_cb(id, on_shutdown, NULL);
    return 0;
}
