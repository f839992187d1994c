/* A stand-in for libnvidia-ml.so.1 without any GPU: eight devices whose energy counter follows CLOCK_MONOTONIC.
 *
 * It answers what nvidia-ml-py asks for on behalf of Zeus and CodeCarbon, so that the CPU time of these can be measured
 * unmodified on a machine without a GPU. It costs next to nothing, as no driver is behind it: what is measured is
 * theirs alone. Written from the field lists of nvidia-ml-py (pynvml.py) and NVIDIA's NVML API reference; names are
 * those that the binding looks up, which are versioned where it maps them so (Count_v2, processes_v3, WithFlags).
 *
 * Build: cc -O2 -shared -fPIC -Wl,-soname,libnvidia-ml.so.1 -o libnvidia-ml.so.1 nvml.c
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3 };
enum { DEVICES = 8, FIRST_WATTS = 200, ARCHITECTURE_HOPPER = 9, FIELD_ENERGY = 83, FIELD_POWER = 185 };
enum { FIELD_POWER_INSTANT = 186, TYPE_UNSIGNED_INT = 1, TYPE_UNSIGNED_LONG_LONG = 3 };

typedef struct device *device;
typedef struct { unsigned gpu, memory; } utilization;
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned version, sensor; int celsius; } temperature;
typedef union { double d; unsigned ui; unsigned long ul; unsigned long long ull; long long sll; } value;
typedef struct { uint32_t field, scope; int64_t time_us, latency_us; unsigned type; int result; value value; } field;

static unsigned index_of(device one) { return (unsigned)(uintptr_t)one - 1; }
static unsigned watts_of(device one) { return FIRST_WATTS + 25 * index_of(one); }

static unsigned long long energy_mj(device one) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (unsigned long long)watts_of(one) * (now.tv_sec * 1000ULL + now.tv_nsec / 1000000);
}

static int text(char *into, unsigned size, const char *form, unsigned number) {
    snprintf(into, size, form, number);
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return SUCCESS; }
int nvmlInit_v2(void) { return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code == NOT_SUPPORTED ? "Not Supported" : "stand-in error"; }
int nvmlSystemGetDriverVersion(char *into, unsigned size) { return text(into, size, "%u.0", 0); }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = DEVICES; return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device *found) {
    if (index >= DEVICES) return INVALID_ARGUMENT;
    *found = (device)(uintptr_t)(index + 1);
    return SUCCESS;
}

int nvmlDeviceGetName(device one, char *into, unsigned size) {
    (void)one;
    return text(into, size, "Stand-in GPU", 0);
}
int nvmlDeviceGetUUID(device one, char *into, unsigned size) {
    return text(into, size, "GPU-00000000-0000-0000-0000-%012u", index_of(one));
}
int nvmlDeviceGetArchitecture(device one, unsigned *into) { (void)one; *into = ARCHITECTURE_HOPPER; return SUCCESS; }
int nvmlDeviceGetC2cModeInfoV(device one, void *into) { (void)one; (void)into; return NOT_SUPPORTED; }
int nvmlDeviceGetComputeMode(device one, unsigned *into) { (void)one; *into = 0; return SUCCESS; }

static unsigned long energy_reads;

int nvmlDeviceGetTotalEnergyConsumption(device one, unsigned long long *into) {
    energy_reads++;
    *into = energy_mj(one);
    return SUCCESS;
}
/* Not of NVML: how often the energy counters were read in this process, so that a cost per sample can be told. */
unsigned long stand_in_energy_reads(void) { return energy_reads; }

int nvmlDeviceGetPowerUsage(device one, unsigned *into) { *into = watts_of(one) * 1000; return SUCCESS; }
int nvmlDeviceGetPowerManagementLimit(device one, unsigned *into) { (void)one; *into = 700000; return SUCCESS; }
int nvmlDeviceGetEnforcedPowerLimit(device one, unsigned *into) { (void)one; *into = 700000; return SUCCESS; }

int nvmlDeviceGetTemperature(device one, unsigned sensor, unsigned *into) {
    (void)one; (void)sensor;
    *into = 40;
    return SUCCESS;
}
int nvmlDeviceGetTemperatureV(device one, temperature *into) { (void)one; into->celsius = 40; return SUCCESS; }
int nvmlDeviceGetUtilizationRates(device one, utilization *into) {
    (void)one;
    *into = (utilization){50, 20};
    return SUCCESS;
}
int nvmlDeviceGetMemoryInfo(device one, memory *into) {
    (void)one;
    *into = (memory){80ULL << 30, 60ULL << 30, 20ULL << 30};
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(device one, unsigned *count, void *into) {
    (void)one; (void)into;
    *count = 0;
    return SUCCESS;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(device one, unsigned *count, void *into) {
    (void)one; (void)into;
    *count = 0;
    return SUCCESS;
}

int nvmlDeviceGetFieldValues(device one, int count, field *fields) {
    for (int i = 0; i < count; i++) {
        field *asked = &fields[i];
        asked->result = SUCCESS;
        if (asked->field == FIELD_ENERGY) {
            asked->type = TYPE_UNSIGNED_LONG_LONG;
            asked->value.ull = energy_mj(one);
        } else if (asked->field == FIELD_POWER || asked->field == FIELD_POWER_INSTANT) {
            asked->type = TYPE_UNSIGNED_INT;
            asked->value.ui = watts_of(one) * 1000;
        } else {
            asked->result = NOT_SUPPORTED;
        }
    }
    return SUCCESS;
}
