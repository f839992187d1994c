/* A stand-in for libnvidia-ml.so.1 without any GPU: what the real bindings ask, answered from one page of memory.
 *
 * The page is the file that NVML_STAND_IN names (tests/doubles/nvml.py writes it while this reads it): devices with their
 * counters, return codes for each call, delays, processes, MIG instances. Without that name there are eight devices
 * whose counters follow CLOCK_MONOTONIC, for benchmarks. It costs next to nothing, as no driver is behind it.
 *
 * Written from NVIDIA's nvml.h (r610, as carried by NVIDIA/go-nvml 2f9e261) and from the symbols that nvidia-ml-py
 * 13.615.71 looks up, which are versioned where it maps them so (Count_v2, processes_v3, InitWithFlags). What it takes
 * over of the real library's manners: handles die with a shutdown; lists are asked for twice; a struct that carries the
 * wrong version is refused; a field's value has a return code of its own; a hung call does not wake for a signal.
 *
 * Build: cc -O2 -shared -fPIC -Wl,-soname,libnvidia-ml.so.1 -o libnvidia-ml.so.1 nvml.c
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
enum { NO_PERMISSION = 4, NO_DATA = 21, VERSION_MISMATCH = 25 };
enum { DEVICES = 16, FIELDS = 16, PROCESSES = 16, SAMPLES = 64, INSTANCES = 8, ANY_INSTANCE = -1, NO_ID = -1 };
enum { FIRST_WATTS = 200, BENCH_DEVICES = 8, ARCHITECTURE_HOPPER = 9, STEP_NS = 5000000 };
enum { UNSIGNED_INT = 1, UNSIGNED_LONG_LONG = 3, METRIC_GRAPHICS = 1, METRIC_SM = 2 };

/* Every call of a device, in the order of its columns `codes` and `calls`; nvml.py reads the names from here. */
#define CALLS(X) \
    X(nvmlDeviceGetHandleByIndex_v2) X(nvmlDeviceGetName) X(nvmlDeviceGetUUID) X(nvmlDeviceGetIndex) \
    X(nvmlDeviceGetMinorNumber) X(nvmlDeviceGetSerial) X(nvmlDeviceGetBrand) X(nvmlDeviceGetArchitecture) \
    X(nvmlDeviceGetNumGpuCores) X(nvmlDeviceGetCudaComputeCapability) X(nvmlDeviceGetPciInfo_v3) \
    X(nvmlDeviceGetC2cModeInfoV) X(nvmlDeviceGetComputeMode) X(nvmlDeviceGetPersistenceMode) \
    X(nvmlDeviceGetPerformanceState) X(nvmlDeviceGetDisplayActive) X(nvmlDeviceGetDisplayMode) \
    X(nvmlDeviceGetFanSpeed) X(nvmlDeviceGetTotalEnergyConsumption) X(nvmlDeviceGetPowerUsage) \
    X(nvmlDeviceGetPowerManagementLimit) X(nvmlDeviceGetPowerManagementDefaultLimit) \
    X(nvmlDeviceGetPowerManagementLimitConstraints) X(nvmlDeviceGetEnforcedPowerLimit) X(nvmlDeviceGetFieldValues) \
    X(nvmlDeviceGetTemperature) X(nvmlDeviceGetTemperatureV) X(nvmlDeviceGetClockInfo) X(nvmlDeviceGetMaxClockInfo) \
    X(nvmlDeviceGetUtilizationRates) X(nvmlDeviceGetEncoderUtilization) X(nvmlDeviceGetDecoderUtilization) \
    X(nvmlDeviceGetMemoryInfo) X(nvmlDeviceGetMemoryInfo_v2) X(nvmlDeviceGetBAR1MemoryInfo) \
    X(nvmlDeviceGetPcieThroughput) X(nvmlDeviceGetTotalEccErrors) X(nvmlDeviceGetViolationStatus) \
    X(nvmlDeviceGetCurrentClocksEventReasons) X(nvmlDeviceGetCurrentClocksThrottleReasons) \
    X(nvmlDeviceGetComputeRunningProcesses_v3) X(nvmlDeviceGetGraphicsRunningProcesses_v3) \
    X(nvmlDeviceGetMPSComputeRunningProcesses_v3) X(nvmlDeviceGetProcessUtilization) X(nvmlDeviceGetMigMode) \
    X(nvmlDeviceIsMigDeviceHandle) X(nvmlDeviceGetMaxMigDeviceCount) X(nvmlDeviceGetMigDeviceHandleByIndex) \
    X(nvmlDeviceGetDeviceHandleFromMigDeviceHandle) X(nvmlDeviceGetGpuInstanceId) \
    X(nvmlDeviceGetComputeInstanceId) X(nvmlDeviceGetAttributes_v2) X(nvmlDeviceGetGpuInstanceProfileInfo) \
    X(nvmlGpmQueryDeviceSupport) X(nvmlGpmSampleGet) X(nvmlGpmMigSampleGet)
#define NUMBER(name) CALL_##name,
enum { CALLS(NUMBER) CALL_COUNT };

typedef struct { uint64_t base_mj, since_ns, power_mw; } pace;
typedef struct { uint32_t id, scope; int32_t code; uint32_t type; uint64_t value; } field;
typedef struct { uint32_t pid, graphics; int32_t gpu_instance, compute_instance; uint64_t used_bytes; } process;
typedef struct { uint64_t time_us; uint32_t pid, sm, memory, unused; } sample;
typedef struct { uint32_t exists, gpu_instance, compute_instance, slices; uint64_t busy_ns, elapsed_ns; } instance;

typedef struct {
    char name[96], uuid[96];
    int32_t status, absent;             /* what every call answers; not seen by an init at all (fell off the bus) */
    int32_t codes[CALL_COUNT];          /* what one call answers */
    uint32_t calls[CALL_COUNT];         /* how often it was called */
    uint64_t delay_ns;                  /* how long a call takes; ends early when it is set to 0 */
    int64_t delayed_call;               /* which call, -1 for all */
    uint64_t tick_ns;                   /* the counter's own period, where it follows the clock */
    pace paces[2];                      /* counter: base + power x time since; the other one is written meanwhile */
    uint64_t which;
    uint32_t average_mw, instant_mw, limit_mw, max_limit_mw, default_limit_mw, celsius, clock_mhz, busy, memory_busy;
    uint32_t architecture, persistence, c2c, mig, gpm, cores;
    uint64_t hides_processes;           /* under MIG: only the instances' own lists may be seen */
    uint64_t memory_bytes, memory_used_bytes, reasons;
    uint64_t throttled_ns[6];           /* power, thermal, sync boost, board limit, low utilization, reliability */
    uint64_t field_count, process_count, sample_count;
    field fields[FIELDS];               /* answers by field and scope that replace the usual ones */
    process processes[PROCESSES];
    sample samples[SAMPLES];
    instance instances[INSTANCES];
} device;

typedef struct {
    uint64_t count, epoch;              /* another epoch: the driver was loaded anew, sessions of before are stale */
    int32_t init_status, count_status, stale_status;
    uint32_t process_stride;            /* 24; 32 is what drivers 530 to 534 wrote into the same buffer */
    uint32_t inits, shutdowns, cuda_version, max_slices;
    char driver[80];
    device devices[DEVICES];
} page;

static page built_in, *control = NULL;
static unsigned users, generation, energy_reads, visible_count;
static int visible[DEVICES];
static uint64_t epoch;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void make_built_in(void) {
    control = &built_in;
    control->count = BENCH_DEVICES;
    control->process_stride = 24;
    control->max_slices = 7;
    control->cuda_version = 13000;
    strcpy(control->driver, "0.0 (stand-in)");
    for (unsigned i = 0; i < BENCH_DEVICES; i++) {
        device *d = &control->devices[i];
        snprintf(d->name, sizeof d->name, "Stand-in GPU");
        snprintf(d->uuid, sizeof d->uuid, "GPU-00000000-0000-0000-0000-%012u", i);
        d->average_mw = d->instant_mw = (FIRST_WATTS + 25 * i) * 1000;
        d->paces[0].power_mw = d->average_mw;
        d->paces[0].base_mj = 1000;
        d->delayed_call = -1;
        d->limit_mw = d->max_limit_mw = d->default_limit_mw = 700000;
        d->celsius = 40, d->clock_mhz = 1980, d->busy = 50, d->memory_busy = 20;
        d->architecture = ARCHITECTURE_HOPPER, d->persistence = 1, d->cores = 16896;
        d->memory_bytes = 80ull << 30, d->memory_used_bytes = 20ull << 30;
    }
}

static int map_page(void) {
    const char *name = getenv("NVML_STAND_IN");
    if (!name || !*name) {
        if (control != &built_in) make_built_in();
        return SUCCESS;
    }
    int fd = open(name, O_RDWR | O_CLOEXEC);
    if (fd < 0) return 999;
    void *at = mmap(NULL, sizeof(page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at == MAP_FAILED) return 999;
    if (control && control != &built_in) munmap(control, sizeof(page));
    control = at;
    return SUCCESS;
}

static void wait_for(device *d, int call) {
    uint64_t began = now_ns();
    struct timespec step = {0, STEP_NS};
    while (d->delay_ns && (d->delayed_call < 0 || d->delayed_call == call) && now_ns() - began < d->delay_ns)
        nanosleep(&step, NULL); /* a loop: a driver in state D does not wake for a signal either */
}

static int living(void) {
    if (!users) return UNINITIALIZED;
    return epoch == control->epoch ? SUCCESS : control->stale_status;
}

static int enter(device *d, int call) {
    d->calls[call]++;
    if (d->delay_ns) wait_for(d, call);
    return d->status ? d->status : d->codes[call];
}

/* A handle is the number of the session, the MIG instance + 1, and the device + 1. */
typedef struct handle_s *handle;
static handle make_handle(unsigned index, int at) {
    return (handle)(uintptr_t)((uint64_t)generation << 16 | (unsigned)(at + 1) << 8 | (index + 1));
}
static unsigned index_of(handle h) { return ((uintptr_t)h & 0xff) - 1; }
static int instance_of(handle h) { return (int)((uintptr_t)h >> 8 & 0xff) - 1; }

#define ENTER(name) \
    int code = living(); \
    if (code) return code; \
    if ((uintptr_t)h >> 16 != generation || index_of(h) >= DEVICES) return INVALID_ARGUMENT; \
    device *d = &control->devices[index_of(h)]; \
    if ((code = enter(d, CALL_##name))) return code
#define DEVICE_CALL(name, ...) int name(handle h, __VA_ARGS__) { ENTER(name);
#define DONE return SUCCESS; }
#define NUMBER_CALL(name, type, value) DEVICE_CALL(name, type *into) *into = (value); DONE
#define TEXT_CALL(name, value) DEVICE_CALL(name, char *into, unsigned size) snprintf(into, size, "%s", value); DONE
#define VERSION(type, number) ((unsigned)sizeof(type) | (unsigned)(number) << 24)

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (!users) {
        int code = map_page();
        if (code) return code;
        control->inits++;
        if (control->init_status) return control->init_status;
        epoch = control->epoch;
        generation++;
        visible_count = 0;
        for (unsigned i = 0; i < control->count && i < DEVICES; i++)
            if (!control->devices[i].absent) visible[visible_count++] = (int)i;
    } else if (control->init_status) return control->init_status;
    users++;
    return SUCCESS;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) {
    if (!users) return UNINITIALIZED;
    users--;
    control->shutdowns++;
    return SUCCESS;
}
const char *nvmlErrorString(int code) { return code == SUCCESS ? "Success" : "an error of the stand-in"; }
int nvmlSystemGetDriverVersion(char *into, unsigned size) {
    int code = living();
    if (!code) snprintf(into, size, "%s", control->driver);
    return code;
}
int nvmlSystemGetNVMLVersion(char *into, unsigned size) { return nvmlSystemGetDriverVersion(into, size); }
int nvmlSystemGetCudaDriverVersion(int *into) { *into = (int)control->cuda_version; return living(); }
int nvmlSystemGetCudaDriverVersion_v2(int *into) { return nvmlSystemGetCudaDriverVersion(into); }
int nvmlSystemGetProcessName(unsigned pid, char *into, unsigned size) { snprintf(into, size, "%u", pid); return living(); }
int nvmlDeviceGetCount_v2(unsigned *count) {
    int code = living();
    *count = visible_count;
    return code ? code : control->count_status;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, handle *found) {
    int code = living();
    if (code) return code;
    if (index >= visible_count) return INVALID_ARGUMENT;
    *found = make_handle((unsigned)visible[index], ANY_INSTANCE);
    return enter(&control->devices[visible[index]], CALL_nvmlDeviceGetHandleByIndex_v2);
}
int nvmlDeviceGetHandleByUUID(const char *uuid, handle *found) {
    for (unsigned i = 0; !living() && i < visible_count; i++)
        if (!strcmp(uuid, control->devices[visible[i]].uuid)) return nvmlDeviceGetHandleByIndex_v2(i, found);
    return living() ? living() : NOT_FOUND;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, handle *found) {
    unsigned at = 0;
    if (sscanf(bus, "%*x:%x:", &at) != 1) return INVALID_ARGUMENT;
    return at ? nvmlDeviceGetHandleByIndex_v2(at - 1, found) : NOT_FOUND;
}

TEXT_CALL(nvmlDeviceGetName, d->name)
DEVICE_CALL(nvmlDeviceGetUUID, char *into, unsigned size)
    if (instance_of(h) >= 0) snprintf(into, size, "MIG-%s-%d", d->uuid + 4, instance_of(h));
    else snprintf(into, size, "%s", d->uuid);
DONE
TEXT_CALL(nvmlDeviceGetSerial, "0")
DEVICE_CALL(nvmlDeviceGetIndex, unsigned *into)
    for (unsigned i = 0; i < visible_count; i++) if (visible[i] == (int)index_of(h)) *into = i;
DONE
NUMBER_CALL(nvmlDeviceGetMinorNumber, unsigned, index_of(h))
NUMBER_CALL(nvmlDeviceGetBrand, unsigned, 0)
NUMBER_CALL(nvmlDeviceGetArchitecture, unsigned, d->architecture)
NUMBER_CALL(nvmlDeviceGetNumGpuCores, unsigned, d->cores)
NUMBER_CALL(nvmlDeviceGetC2cModeInfoV, unsigned, d->c2c) /* the struct is this one word; it has no version */
NUMBER_CALL(nvmlDeviceGetComputeMode, unsigned, 0)
NUMBER_CALL(nvmlDeviceGetPersistenceMode, unsigned, d->persistence)
NUMBER_CALL(nvmlDeviceGetPerformanceState, unsigned, 0)
NUMBER_CALL(nvmlDeviceGetDisplayActive, unsigned, 0)
NUMBER_CALL(nvmlDeviceGetDisplayMode, unsigned, 0)
NUMBER_CALL(nvmlDeviceGetFanSpeed, unsigned, 30)
DEVICE_CALL(nvmlDeviceGetCudaComputeCapability, int *major, int *minor) *major = 9, *minor = 0; DONE
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char text[32]; } pci;
DEVICE_CALL(nvmlDeviceGetPciInfo_v3, pci *into)
    *into = (pci){.bus = index_of(h) + 1, .id = 0x233010de};
    snprintf(into->text, sizeof into->text, "00000000:%02X:00.0", into->bus);
    snprintf(into->legacy, sizeof into->legacy, "0000:%02X:00.0", into->bus);
DONE

static uint64_t energy_mj(const device *d) {
    const pace *now = &d->paces[d->which & 1];
    if (!now->power_mw) return now->base_mj;
    uint64_t at = now_ns();
    if (d->tick_ns) at -= at % d->tick_ns;
    if (at < now->since_ns) return now->base_mj;
    return now->base_mj + (uint64_t)((double)now->power_mw * (double)(at - now->since_ns) / 1e9);
}
DEVICE_CALL(nvmlDeviceGetTotalEnergyConsumption, unsigned long long *into)
    energy_reads++;
    *into = energy_mj(d);
DONE
/* Not of NVML: how often energy counters were read in this process, so that a cost per sample can be told. */
unsigned long stand_in_energy_reads(void) { return energy_reads; }
/* Not of NVML: so that who writes the page can see that it is laid out as here. */
unsigned long stand_in_page_bytes(void) { return sizeof(page); }
unsigned long stand_in_device_bytes(void) { return sizeof(device); }

NUMBER_CALL(nvmlDeviceGetPowerUsage, unsigned, d->average_mw)
NUMBER_CALL(nvmlDeviceGetPowerManagementLimit, unsigned, d->limit_mw)
NUMBER_CALL(nvmlDeviceGetPowerManagementDefaultLimit, unsigned, d->default_limit_mw)
DEVICE_CALL(nvmlDeviceGetPowerManagementLimitConstraints, unsigned *least, unsigned *most)
    *least = 100000, *most = d->max_limit_mw;
DONE
NUMBER_CALL(nvmlDeviceGetEnforcedPowerLimit, unsigned, d->limit_mw)

typedef union { double d; unsigned ui; unsigned long ul; unsigned long long ull; long long sll; } value;
typedef struct { uint32_t id, scope; int64_t time_us, latency_us; unsigned type; int result; value value; } answer;

static void set(answer *a, unsigned type, uint64_t number) {
    a->result = SUCCESS, a->type = type, a->value.ull = number;
}
static void usual_answer(device *d, answer *a) {
    unsigned limits[] = {100000, d->max_limit_mw, d->default_limit_mw, d->limit_mw};
    a->result = NOT_SUPPORTED;
    if (a->id >= 74 && a->id <= 79) set(a, UNSIGNED_LONG_LONG, d->throttled_ns[a->id - 74]);
    else if (a->scope) return;
    else if (a->id == 83 || a->id == 191) set(a, UNSIGNED_LONG_LONG, energy_mj(d));
    else if (a->id == 185 || a->id == 186) set(a, UNSIGNED_INT, a->id == 185 ? d->average_mw : d->instant_mw);
    else if (a->id >= 187 && a->id <= 190) set(a, UNSIGNED_INT, limits[a->id - 187]);
}
DEVICE_CALL(nvmlDeviceGetFieldValues, int count, answer *answers)
    for (answer *a = answers; a < answers + count; a++) {
        usual_answer(d, a);
        for (field *f = d->fields; f < d->fields + d->field_count; f++)
            if (f->id == a->id && f->scope == a->scope) set(a, f->type, f->value), a->result = f->code;
        energy_reads += a->id == 83 || a->id == 191;
    }
DONE

DEVICE_CALL(nvmlDeviceGetTemperature, unsigned sensor, unsigned *into) (void)sensor; *into = d->celsius; DONE
typedef struct { unsigned version, sensor; int celsius; } temperature;
DEVICE_CALL(nvmlDeviceGetTemperatureV, temperature *into)
    if (into->version != VERSION(temperature, 1)) return VERSION_MISMATCH;
    into->celsius = (int)d->celsius;
DONE
DEVICE_CALL(nvmlDeviceGetClockInfo, unsigned kind, unsigned *into) (void)kind; *into = d->clock_mhz; DONE
DEVICE_CALL(nvmlDeviceGetMaxClockInfo, unsigned kind, unsigned *into) (void)kind; *into = 1980; DONE
typedef struct { unsigned gpu, memory; } rates;
DEVICE_CALL(nvmlDeviceGetUtilizationRates, rates *into)
    if (d->mig) return NOT_SUPPORTED;
    *into = (rates){d->busy, d->memory_busy};
DONE
DEVICE_CALL(nvmlDeviceGetEncoderUtilization, unsigned *into, unsigned *period_us) *into = 0, *period_us = 1000; DONE
DEVICE_CALL(nvmlDeviceGetDecoderUtilization, unsigned *into, unsigned *period_us) *into = 0, *period_us = 1000; DONE
typedef struct { unsigned long long total, free, used; } memory;
DEVICE_CALL(nvmlDeviceGetMemoryInfo, memory *into)
    *into = (memory){d->memory_bytes, d->memory_bytes - d->memory_used_bytes, d->memory_used_bytes};
DONE
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
DEVICE_CALL(nvmlDeviceGetMemoryInfo_v2, memory_v2 *into)
    if (into->version != VERSION(memory_v2, 2)) return VERSION_MISMATCH;
    into->total = d->memory_bytes, into->reserved = 0, into->used = d->memory_used_bytes;
    into->free = into->total - into->used;
DONE
DEVICE_CALL(nvmlDeviceGetBAR1MemoryInfo, memory *into) *into = (memory){1 << 28, 1 << 28, 0}; DONE
DEVICE_CALL(nvmlDeviceGetPcieThroughput, unsigned kind, unsigned *into) (void)kind; *into = 0; DONE
DEVICE_CALL(nvmlDeviceGetTotalEccErrors, unsigned kind, unsigned counter, unsigned long long *into)
    (void)kind; (void)counter; *into = 0;
DONE
typedef struct { unsigned long long reference_us, violation_ns; } violation;
DEVICE_CALL(nvmlDeviceGetViolationStatus, unsigned policy, violation *into)
    if (policy > 5) return NOT_SUPPORTED;
    *into = (violation){now_ns() / 1000, d->throttled_ns[policy]};
DONE
NUMBER_CALL(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, d->reasons)
NUMBER_CALL(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, d->reasons)

typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } listed;
static int list(device *d, handle h, unsigned graphics, unsigned *count, listed *into) {
    const instance *only = instance_of(h) < 0 ? NULL : &d->instances[instance_of(h)];
    if (d->hides_processes && !only) return NO_PERMISSION;
    unsigned room = into ? *count : 0, found = 0;
    uint64_t longer = 1184; /* one of the pids that were reported of such drivers */
    size_t limit = (size_t)room * sizeof(listed), stride = control->process_stride;
    for (process *p = d->processes; p < d->processes + d->process_count; p++) {
        if (p->graphics != graphics || (only && p->gpu_instance != (int)only->gpu_instance)) continue;
        if (only && p->compute_instance != (int)only->compute_instance) continue;
        listed one = {p->pid, p->used_bytes, (unsigned)p->gpu_instance, (unsigned)p->compute_instance};
        char *at = (char *)into + found * stride;
        if (found < room && (found + 1) * stride <= limit) memcpy(at, &one, sizeof one);
        if (found < room && (found + 1) * stride <= limit && stride > sizeof one) memcpy(at + sizeof one, &longer, 8);
        found++;
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}
#define LIST_CALL(name, graphics) DEVICE_CALL(name, unsigned *count, listed *into) return list(d, h, graphics, count, into); }
LIST_CALL(nvmlDeviceGetComputeRunningProcesses_v3, 0)
LIST_CALL(nvmlDeviceGetGraphicsRunningProcesses_v3, 1)
LIST_CALL(nvmlDeviceGetMPSComputeRunningProcesses_v3, 2)

typedef struct { unsigned pid; unsigned long long time_us; unsigned sm, memory, encoder, decoder; } used;
DEVICE_CALL(nvmlDeviceGetProcessUtilization, used *into, unsigned *count, unsigned long long last_seen_us)
    unsigned room = into ? *count : 0, found = 0;
    if (d->mig) return NOT_SUPPORTED;
    for (sample *s = d->samples; s < d->samples + d->sample_count; s++) {
        if (s->time_us <= last_seen_us) continue;
        if (found < room) into[found] = (used){s->pid, s->time_us, s->sm, s->memory, 0, 0};
        found++;
    }
    *count = found;
    if (!found) return NOT_FOUND;
    if (found > room) return INSUFFICIENT_SIZE;
DONE

DEVICE_CALL(nvmlDeviceGetMigMode, unsigned *current, unsigned *pending) *current = *pending = d->mig; DONE
NUMBER_CALL(nvmlDeviceIsMigDeviceHandle, unsigned, instance_of(h) >= 0)
NUMBER_CALL(nvmlDeviceGetMaxMigDeviceCount, unsigned, d->mig ? control->max_slices : 0)
DEVICE_CALL(nvmlDeviceGetMigDeviceHandleByIndex, unsigned at, handle *into)
    if (at >= INSTANCES || !d->mig || !d->instances[at].exists) return NOT_FOUND;
    *into = make_handle(index_of(h), (int)at);
DONE
NUMBER_CALL(nvmlDeviceGetDeviceHandleFromMigDeviceHandle, handle, make_handle(index_of(h), ANY_INSTANCE))
#define MIG_CALL(name, member) DEVICE_CALL(name, unsigned *into) \
    if (instance_of(h) < 0) return INVALID_ARGUMENT; \
    *into = d->instances[instance_of(h)].member; DONE
MIG_CALL(nvmlDeviceGetGpuInstanceId, gpu_instance)
MIG_CALL(nvmlDeviceGetComputeInstanceId, compute_instance)
typedef struct { unsigned multiprocessors, engines[5], gpu_slices, compute_slices; unsigned long long mib; } attributes;
DEVICE_CALL(nvmlDeviceGetAttributes_v2, attributes *into)
    if (instance_of(h) < 0) return NOT_SUPPORTED;
    unsigned slices = d->instances[instance_of(h)].slices;
    *into = (attributes){.multiprocessors = 16 * slices, .gpu_slices = slices, .compute_slices = slices};
DONE
typedef struct { unsigned id, p2p, slices, instances, multiprocessors, engines[5]; unsigned long long mib; } profile;
DEVICE_CALL(nvmlDeviceGetGpuInstanceProfileInfo, unsigned number, profile *into)
    static const unsigned slices[] = {1, 2, 3, 4, 7};
    if (number > 4 || !d->mig) return INVALID_ARGUMENT;
    if (slices[number] > control->max_slices) return NOT_SUPPORTED;
    *into = (profile){.id = number, .slices = slices[number], .instances = 1};
DONE

typedef struct { unsigned version, supported; } support;
DEVICE_CALL(nvmlGpmQueryDeviceSupport, support *into)
    if (into->version != 1) return VERSION_MISMATCH;
    into->supported = d->gpm;
DONE
typedef struct { uint64_t busy_ns, elapsed_ns; } gpm;
int nvmlGpmSampleAlloc(gpm **into) { *into = calloc(1, sizeof(gpm)); return *into ? SUCCESS : 20; }
int nvmlGpmSampleFree(gpm *one) { free(one); return SUCCESS; }
DEVICE_CALL(nvmlGpmMigSampleGet, unsigned gpu_instance, gpm *into)
    if (!d->gpm) return NOT_SUPPORTED;
    for (instance *i = d->instances; i < d->instances + INSTANCES; i++)
        if (i->exists && i->gpu_instance == gpu_instance) { *into = (gpm){i->busy_ns, i->elapsed_ns}; return SUCCESS; }
    return NOT_FOUND;
}
DEVICE_CALL(nvmlGpmSampleGet, gpm *into) *into = (gpm){0, 0}; return d->gpm ? SUCCESS : NOT_SUPPORTED; }
typedef struct { unsigned id; int result; double value; char *names[3]; } metric;
typedef struct { unsigned version, count; gpm *first, *second; metric metrics[]; } metrics;
int nvmlGpmMetricsGet(metrics *asked) {
    if (asked->version != 1) return VERSION_MISMATCH;
    uint64_t elapsed_ns = asked->second->elapsed_ns - asked->first->elapsed_ns;
    for (metric *m = asked->metrics; m < asked->metrics + asked->count; m++) {
        m->result = m->id > METRIC_SM ? NOT_SUPPORTED : elapsed_ns ? SUCCESS : NO_DATA;
        m->value = elapsed_ns ? 100.0 * (double)(asked->second->busy_ns - asked->first->busy_ns) / (double)elapsed_ns : 0;
    }
    return SUCCESS;
}
