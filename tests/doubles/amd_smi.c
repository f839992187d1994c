/* The part of the stand-in for AMD's libamd_smi.so that is written by hand. Everything that it says is in one page of
 * 64-bit words, mapped from the file that INFERWATT_AMD_SMI_PAGE names: the test writes it, or another process.
 * amd_smi.py puts the numbers of the words and the stubs of all other symbols in front of this. */

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { NOT_SUPPORTED = 2, NOT_FOUND = 31, NOT_INIT = 32 };

static uint64_t *page;

/* A handle is the number of the GPU, from 1, and above its lowest byte that of the initialisation that made it: odd or
 * even, as the addresses of a real library's are used again too. */
static uint64_t generation(void) { return 1 + page[INITS] % 2; }

static uint64_t *gpu(void *handle) { return page + FIRST_GPU + (((uintptr_t)handle & 0xff) - 1) * GPU_WORDS; }

/* What a call on a GPU returns before it looks at anything else: a handle dies with a shut-down, and a GPU that came
 * back later than the library looked is not there for it. */
static int before(void *handle, int status) {
    if (!page) return NOT_INIT;
    uint64_t *g = gpu(handle);
    g[CALLS]++;
    if ((uintptr_t)handle >> 8 != generation() || g[SINCE_INIT] > page[INITS]) return NOT_FOUND;
    return g[STATUS] ? (int)g[STATUS] : (int)g[status];
}

/* The structs are laid out as the installed package lays them out: its offsets and sizes are in the page. */
static void put(void *out, int field, uint64_t value) {
    uint64_t size = page[FIRST_FIELD + 2 * field + 1];
    if (size) memcpy((char *)out + page[FIRST_FIELD + 2 * field], &value, size);
}

static void put_text(void *out, int field, const uint64_t *text) {
    if (page[FIRST_FIELD + 2 * field + 1]) memcpy((char *)out + page[FIRST_FIELD + 2 * field], text, 64);
}

static void wait_while(const volatile uint64_t *hang) {
    const struct timespec moment = {0, 1000000};
    while (*hang) nanosleep(&moment, NULL);
}

int amdsmi_init(uint64_t flags) {
    (void)flags;
    int fd = open(getenv("INFERWATT_AMD_SMI_PAGE"), O_RDWR);
    if (fd < 0) return NOT_FOUND;
    uint64_t *mapped = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    mapped[INITS]++;
    wait_while(&mapped[INIT_HANG]);
    if (mapped[INIT_STATUS]) return (int)mapped[INIT_STATUS];
    page = mapped;
    return 0;
}

int amdsmi_shut_down(void) {
    if (!page) return NOT_INIT;
    page[SHUTDOWNS]++;
    page = NULL;
    return 0;
}

int amdsmi_get_socket_handles(uint32_t *count, void **handles) {
    if (!page) return NOT_INIT;
    *count = (uint32_t)page[COUNT];
    for (uint32_t i = 0; handles && i < *count; i++) handles[i] = (void *)(uintptr_t)(generation() << 8 | (i + 1));
    return 0;
}

int amdsmi_get_processor_handles(void *socket, uint32_t *count, void **handles) {
    if (!page) return NOT_INIT;
    *count = 1;
    if (handles) handles[0] = socket;
    return 0;
}

int amdsmi_get_gpu_device_bdf(void *handle, uint64_t *bdf) {
    int status = before(handle, STATUS);
    *bdf = gpu(handle)[BDF];
    return status;
}

/* It hangs for as long as the page says so. */
int amdsmi_get_energy_count(void *handle, uint64_t *accumulator, float *resolution, uint64_t *timestamp) {
    int status = before(handle, ENERGY_STATUS);
    if (status) return status;
    uint64_t *g = gpu(handle);
    wait_while(&g[HANG]);
    g[ACCUMULATOR] += g[STEP];
    *accumulator = g[ACCUMULATOR];
    memcpy(resolution, &g[RESOLUTION], sizeof *resolution);
    *timestamp = g[TIMESTAMP_NS];
    return 0;
}

int amdsmi_get_power_info(void *handle, void *info) {
    int status = before(handle, POWER_STATUS);
    if (status) return status;
    uint64_t *g = gpu(handle);
    put(info, F_CURRENT_SOCKET_POWER, g[CURRENT_WATTS]);
    put(info, F_AVERAGE_SOCKET_POWER, g[AVERAGE_WATTS]);
    put(info, F_SOCKET_POWER, g[SOCKET_WATTS]);
    return 0;
}

/* amdsmi 6.3 and 6.4 call this one. */
int amdsmi_get_power_info_v2(void *handle, uint32_t sensor, void *info) {
    return sensor ? NOT_SUPPORTED : amdsmi_get_power_info(handle, info);
}

int amdsmi_get_gpu_activity(void *handle, void *info) {
    int status = before(handle, ACTIVITY_STATUS);
    if (!status) put(info, F_GFX_ACTIVITY, gpu(handle)[BUSY_PERCENT]);
    return status;
}

int amdsmi_get_gpu_asic_info(void *handle, void *info) {
    int status = before(handle, ASIC_STATUS);
    if (!status) put_text(info, F_MARKET_NAME, gpu(handle) + NAME);
    return status;
}

int amdsmi_get_gpu_device_uuid(void *handle, uint32_t *length, char *uuid) {
    int status = before(handle, STATUS);
    if (!status) memcpy(uuid, gpu(handle) + UUID, *length < 64 ? *length : 64);
    return status;
}

int amdsmi_get_gpu_driver_info(void *handle, void *info) {
    int status = before(handle, STATUS);
    if (!status) put_text(info, F_DRIVER_VERSION, gpu(handle) + DRIVER);
    return status;
}

int amdsmi_get_power_cap_info(void *handle, uint32_t sensor, void *info) {
    int status = sensor ? NOT_SUPPORTED : before(handle, STATUS);
    if (status) return status;
    put(info, F_POWER_CAP, gpu(handle)[CAP_UW]);
    put(info, F_MAX_POWER_CAP, gpu(handle)[MAX_CAP_UW]);
    return 0;
}

/* A word of all ones is "this GPU has no such sensor". */
int amdsmi_get_temp_metric(void *handle, uint32_t kind, uint32_t metric, int64_t *celsius) {
    int status = before(handle, STATUS);
    if (status) return status;
    uint64_t value = gpu(handle)[kind == 1 ? HOTSPOT_CELSIUS : EDGE_CELSIUS];
    *celsius = (int64_t)value;
    return metric || kind > 1 || value == UINT64_MAX ? NOT_SUPPORTED : 0;
}

int amdsmi_get_clock_info(void *handle, uint32_t kind, void *info) {
    int status = kind ? NOT_SUPPORTED : before(handle, STATUS);
    if (!status) put(info, F_CLK, gpu(handle)[CLOCK_MHZ]);
    return status;
}
