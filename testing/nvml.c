/* A simulated libnvidia-ml.so.1: the functions that the exporter calls through pynvml.
 *
 * What it tells is in the JSON file that VGPUMONITOR_SIMULATED_NVML names; simulate/nvml/state.py
 * describes it. The file is looked at in every call and read again when it was replaced.
 * Structures and numbers are those of NVIDIA's nvml.h, as pynvml has them.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "json.h"

#define EXPORT __attribute__((visibility("default")))
#define STATE_VARIABLE "VGPUMONITOR_SIMULATED_NVML"

enum { MAX_DEVICES = 32, MAX_MIGS = 7, MAX_EVENT_SETS = 16, TARGET = 16 };
enum { NO_INSTANCE = 0xffffffff };

typedef enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    TIMEOUT = 10,
    FUNCTION_NOT_FOUND = 13,
    ARGUMENT_VERSION_MISMATCH = 25,
} Return;

typedef struct {
    unsigned long long total, free, used;
} Memory;

typedef struct {
    unsigned int version;
    unsigned long long total, reserved, free, used;
} MemoryV2;

typedef struct {
    unsigned int gpu, memory;
} Utilization;

typedef struct {
    unsigned int pid;
    unsigned long long used;
    unsigned int gpu_instance, compute_instance;
} Process;

typedef struct {
    unsigned int pid;
    unsigned long long timestamp;
    unsigned int sm, memory, encoder, decoder;
} ProcessSample;

typedef struct {
    unsigned long long timestamp;
    unsigned int pid, sm, memory, encoder, decoder, jpeg, ofa;
} ProcessSampleV1;

typedef struct {
    unsigned int version, count;
    unsigned long long last_seen;
    ProcessSampleV1 *samples;
} ProcessSamplesV1;

typedef struct {
    unsigned int version, sensor;
    int celsius;
} TemperatureV1;

typedef struct {
    char legacy_bus_id[16];
    unsigned int domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
} Pci;

typedef struct {
    unsigned int field, scope;
    int64_t timestamp, latency;
    enum { DOUBLE = 0, UNSIGNED_LONG_LONG = 3, SIGNED_LONG_LONG = 4 } type;
    Return result;
    union {
        double fraction;
        unsigned long long integer;
    } value;
} FieldValue;

/* A device, or with a place a MIG device of it. What callers hold are addresses of `handles`. */
typedef struct {
    int index, place;
} Handle;

typedef struct {
    const Handle *device;
    unsigned long long type, data;
    unsigned int gpu_instance, compute_instance;
} Event;

/* `seen` is how many of the state's events it has been through. */
typedef struct {
    bool used;
    unsigned int seen;
    unsigned long long types[MAX_DEVICES];
} EventSet;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int holds; /* how often it was initialized more than it was shut down */
static Json *state; /* NULL: there is no driver */
static struct stat seen;
static Handle handles[MAX_DEVICES][1 + MAX_MIGS];
static EventSet event_sets[MAX_EVENT_SETS];

static Json *load(FILE *file, size_t size) {
    char *text = malloc(size + 1);
    text[fread(text, 1, size, file)] = '\0';
    Json *value = json_parse(text);
    if (value != NULL && value->kind == JSON_OBJECT) {
        value->text = text; /* The tree points into it: they are freed together. */
        return value;
    }
    fprintf(stderr, "the state of a simulated NVML is not a JSON object\n");
    json_free(value);
    free(text);
    return NULL;
}

static void unload(void) {
    if (state != NULL)
        free((char *)state->text);
    json_free(state);
    state = NULL;
}

/* Reads the state if it was replaced. Without a file, or with a wrong one, there is no driver. */
static void refresh(void) {
    const char *path = getenv(STATE_VARIABLE);
    FILE *file = path == NULL ? NULL : fopen(path, "re");
    struct stat now;
    if (file == NULL || fstat(fileno(file), &now) != 0) {
        unload();
        seen = (struct stat){0};
    } else if (now.st_ino != seen.st_ino || now.st_size != seen.st_size ||
               now.st_mtim.tv_sec != seen.st_mtim.tv_sec ||
               now.st_mtim.tv_nsec != seen.st_mtim.tv_nsec) {
        unload();
        seen = now;
        state = load(file, (size_t)now.st_size);
    }
    holds = state == NULL ? 0 : holds;
    if (file != NULL)
        fclose(file);
}

static const Json *device_at(unsigned int index) {
    return index < MAX_DEVICES ? json_element(json_member(state, "devices"), index) : NULL;
}

static const Json *mig_at(const Json *device, unsigned int place) {
    return place < MAX_MIGS ? json_element(json_member(device, "mig_devices"), place) : NULL;
}

static const Handle *handle_of(unsigned int index, int place) {
    Handle *handle = &handles[index][place + 1];
    *handle = (Handle){(int)index, place};
    return handle;
}

/* What `faults` of the state ("errors", "hangs") have for a call: under its name, or under its
 * name without its version. */
static const Json *faults_of(const char *faults, const char *call) {
    const Json *of_call = json_member(json_member(state, faults), call);
    const char *version = strrchr(call, '_');
    if (of_call != NULL || version == NULL)
        return of_call;
    char name[96];
    snprintf(name, sizeof name, "%.*s", (int)(version - call), call);
    return json_member(json_member(state, faults), name);
}

static bool names(const Json *list, const char *wanted) {
    for (const Json *each = list == NULL ? NULL : list->first; each != NULL; each = each->next)
        if (each->kind == JSON_STRING && strcmp(each->text, wanted) == 0)
            return true;
    return false;
}

static void pause_briefly(void) {
    pthread_mutex_unlock(&lock);
    nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
    pthread_mutex_lock(&lock);
    refresh();
}

/* Begins a call with the lock held, which the caller releases with leave(). */
static Return enter_always(const char *call, const char *target) {
    pthread_mutex_lock(&lock);
    refresh();
    while (names(faults_of("hangs", call), target))
        pause_briefly();
    if (state == NULL)
        return DRIVER_NOT_LOADED;
    if (names(json_member(state, "missing"), call))
        return FUNCTION_NOT_FOUND;
    return (Return)json_integer(json_member(faults_of("errors", call), target));
}

static Return enter(const char *call, const char *target) {
    Return result = enter_always(call, target);
    return holds > 0 || result == FUNCTION_NOT_FOUND ? result : UNINITIALIZED;
}

static Return leave(Return result) {
    pthread_mutex_unlock(&lock);
    return result;
}

static const char *target_of(const Handle *handle, char target[TARGET]) {
    if (handle == NULL)
        return "-";
    const char *form = handle->place < 0 ? "%d" : "%d.%d";
    snprintf(target, TARGET, form, handle->index, handle->place);
    return target;
}

/* Begins a call about a device or a MIG device; `part` is what the state has of it. */
static Return enter_part(const char *call, const Handle *handle, const Json **part) {
    char target[TARGET];
    Return result = enter(call, target_of(handle, target));
    if (result != SUCCESS)
        return result;
    *part = handle == NULL ? NULL : device_at((unsigned int)handle->index);
    if (*part != NULL && handle->place >= 0)
        *part = mig_at(*part, (unsigned int)handle->place);
    return *part == NULL ? INVALID_ARGUMENT : SUCCESS;
}

/* Begins a call for one field of it, which is there. */
static Return enter_field(const char *call, const Handle *handle, const char *field,
                          const Json **value) {
    const Json *part = NULL;
    Return result = enter_part(call, handle, &part);
    if (result != SUCCESS)
        return result;
    *value = json_member(part, field);
    return json_there(*value) ? SUCCESS : NOT_SUPPORTED;
}

/* Follows `count` numbers down from `value`: places in arrays, or names of members. */
static Return select_from(const Json **value, int count, const unsigned int *selectors) {
    for (int i = 0; i < count; i++) {
        char name[16];
        bool array = (*value)->kind == JSON_ARRAY;
        snprintf(name, sizeof name, "%u", selectors[i]);
        *value = array ? json_element(*value, selectors[i]) : json_member(*value, name);
        if (*value == NULL && array)
            return INVALID_ARGUMENT;
        if (!json_there(*value))
            return NOT_SUPPORTED;
    }
    return SUCCESS;
}

static Return reading(const char *call, const Handle *handle, const char *field, int count,
                      const unsigned int *selectors, unsigned long long *number) {
    const Json *value = NULL;
    Return result = enter_field(call, handle, field, &value);
    if (result == SUCCESS)
        result = select_from(&value, count, selectors);
    if (result == SUCCESS)
        *number = json_integer(value);
    return leave(result);
}

/* The elements of an array, each into an unsigned int. */
static Return elements(const char *call, const Handle *handle, const char *field, int count, ...) {
    const Json *value = NULL;
    Return result = enter_field(call, handle, field, &value);
    va_list found;
    va_start(found, count);
    for (int i = 0; result == SUCCESS && i < count; i++)
        *va_arg(found, unsigned int *) =
            (unsigned int)json_integer(json_element(value, (unsigned int)i));
    va_end(found);
    return leave(result);
}

static Return copy_text(const char *text, char *buffer, unsigned int size) {
    if (strlen(text) >= size)
        return INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return SUCCESS;
}

static Return text(const char *call, const Handle *handle, const char *field, char *buffer,
                   unsigned int size) {
    const Json *value = NULL;
    Return result = enter_field(call, handle, field, &value);
    return leave(result == SUCCESS ? copy_text(value->text, buffer, size) : result);
}

#define TEXT(function, field)                                                              \
    EXPORT Return function(const Handle *handle, char *buffer, unsigned int size) {         \
        return text(__func__, handle, field, buffer, size);                                \
    }

/* A number; what stands between handle and result in the signature is in the variants. */
#define READ(type, field, count, ...)                                                      \
    {                                                                                      \
        unsigned long long number;                                                         \
        Return result =                                                                    \
            reading(__func__, handle, field, count, (unsigned int[]){__VA_ARGS__}, &number); \
        if (result == SUCCESS)                                                             \
            *value = (type)number;                                                         \
        return result;                                                                     \
    }
#define READING(function, type, field)                                                     \
    EXPORT Return function(const Handle *handle, type *value) READ(type, field, 0, 0)
#define READING_AT(function, type, field)                                                  \
    EXPORT Return function(const Handle *handle, unsigned int place, type *value)           \
        READ(type, field, 1, place)

/* Two numbers. */
#define PAIR(function, field)                                                              \
    EXPORT Return function(const Handle *handle, unsigned int *first, unsigned int *second) { \
        return elements(__func__, handle, field, 2, first, second);                        \
    }

TEXT(nvmlDeviceGetUUID, "uuid")
TEXT(nvmlDeviceGetSerial, "serial")
TEXT(nvmlDeviceGetVbiosVersion, "vbios_version")
READING(nvmlDeviceGetMinorNumber, unsigned int, "minor")
READING(nvmlDeviceGetGpuInstanceId, unsigned int, "gpu_instance_id")
READING(nvmlDeviceGetComputeInstanceId, unsigned int, "compute_instance_id")
PAIR(nvmlDeviceGetEncoderUtilization, "encoder")
PAIR(nvmlDeviceGetDecoderUtilization, "decoder")
READING(nvmlDeviceGetPowerUsage, unsigned int, "power_milliwatts")
READING(nvmlDeviceGetEnforcedPowerLimit, unsigned int, "enforced_power_limit_milliwatts")
READING_AT(nvmlDeviceGetTemperatureThreshold, unsigned int, "temperature_thresholds")
READING_AT(nvmlDeviceGetClockInfo, unsigned int, "clocks")
READING_AT(nvmlDeviceGetMaxClockInfo, unsigned int, "max_clocks")
READING_AT(nvmlDeviceGetFanSpeed_v2, unsigned int, "fan_speeds")
READING(nvmlDeviceGetPerformanceState, unsigned int, "performance_state")
READING(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, "throttle")
READING(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, "throttle")
READING(nvmlDeviceGetCurrPcieLinkGeneration, unsigned int, "pcie_generation")
READING(nvmlDeviceGetCurrPcieLinkWidth, unsigned int, "pcie_width")
READING(nvmlDeviceGetMaxPcieLinkGeneration, unsigned int, "max_pcie_generation")
READING(nvmlDeviceGetMaxPcieLinkWidth, unsigned int, "max_pcie_width")
READING(nvmlDeviceGetSupportedEventTypes, unsigned long long, "event_types")

EXPORT Return nvmlDeviceGetTemperature(const Handle *handle, unsigned int sensor,
                                       unsigned int *value) {
    (void)sensor;
    READ(unsigned int, "temperature", 0, 0)
}

EXPORT Return nvmlDeviceGetTemperatureV(const Handle *handle, TemperatureV1 *temperature) {
    int *value = &temperature->celsius;
    READ(int, "temperature", 0, 0)
}

EXPORT Return nvmlDeviceGetTotalEccErrors(const Handle *handle, unsigned int type,
                                          unsigned int counter, unsigned long long *value) {
    (void)counter;
    READ(unsigned long long, "ecc", 1, type)
}

EXPORT Return nvmlDeviceGetUtilizationRates(const Handle *handle, Utilization *found) {
    return elements(__func__, handle, "utilization", 2, &found->gpu, &found->memory);
}

EXPORT Return nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    Return result = enter_always(__func__, "-");
    holds += result == SUCCESS;
    return leave(result);
}

EXPORT Return nvmlShutdown(void) {
    Return result = enter(__func__, "-");
    holds -= result == SUCCESS;
    return leave(result);
}

EXPORT const char *nvmlErrorString(Return result) {
    (void)result;
    return "a simulated error";
}

EXPORT Return nvmlSystemGetDriverVersion(char *version, unsigned int size) {
    Return result = enter(__func__, "-");
    const Json *driver = json_member(state, "driver_version");
    return leave(result == SUCCESS ? copy_text(driver->text, version, size) : result);
}

EXPORT Return nvmlSystemGetCudaDriverVersion(int *version) {
    Return result = enter(__func__, "-");
    *version = (int)json_integer(json_member(state, "cuda_version"));
    return leave(result);
}

EXPORT Return nvmlDeviceGetCount_v2(unsigned int *count) {
    Return result = enter(__func__, "-");
    *count = json_length(json_member(state, "devices"));
    return leave(result);
}

EXPORT Return nvmlDeviceGetHandleByIndex_v2(unsigned int index, const Handle **handle) {
    char target[TARGET];
    Return result = enter(__func__, target_of(&(Handle){(int)index, -1}, target));
    if (result == SUCCESS && device_at(index) == NULL)
        result = INVALID_ARGUMENT;
    if (result == SUCCESS)
        *handle = handle_of(index, -1);
    return leave(result);
}

EXPORT Return nvmlDeviceGetHandleByUUID(const char *uuid, const Handle **handle) {
    Return result = enter(__func__, "-");
    const Json *device = NULL;
    for (unsigned int index = 0; result == SUCCESS && (device = device_at(index)) != NULL; index++)
        if (strcmp(json_member(device, "uuid")->text, uuid) == 0) {
            *handle = handle_of(index, -1);
            return leave(SUCCESS);
        }
    return leave(result == SUCCESS ? NOT_FOUND : result);
}

EXPORT Return nvmlDeviceGetMigDeviceHandleByIndex(const Handle *device, unsigned int place,
                                                  const Handle **handle) {
    char target[TARGET];
    Return result = enter(__func__, target_of(&(Handle){device->index, (int)place}, target));
    const Json *found = device_at((unsigned int)device->index);
    if (result == SUCCESS && (found == NULL || device->place >= 0))
        result = INVALID_ARGUMENT;
    if (result == SUCCESS && mig_at(found, place) == NULL)
        result = NOT_FOUND;
    if (result == SUCCESS)
        *handle = handle_of((unsigned int)device->index, (int)place);
    return leave(result);
}

EXPORT Return nvmlDeviceGetDeviceHandleFromMigDeviceHandle(const Handle *mig,
                                                           const Handle **device) {
    const Json *part = NULL;
    Return result = enter_part(__func__, mig, &part);
    if (result == SUCCESS && mig->place < 0)
        result = INVALID_ARGUMENT;
    if (result == SUCCESS)
        *device = handle_of((unsigned int)mig->index, -1);
    return leave(result);
}

EXPORT Return nvmlDeviceGetMigMode(const Handle *handle, unsigned int *current,
                                   unsigned int *pending) {
    const Json *migs = NULL;
    Return result = enter_field(__func__, handle, "mig_devices", &migs);
    if (result == SUCCESS && json_length(migs) == 0)
        result = NOT_SUPPORTED;
    *current = *pending = 1;
    return leave(result);
}

EXPORT Return nvmlDeviceGetMaxMigDeviceCount(const Handle *handle, unsigned int *count) {
    const Json *migs = NULL;
    Return result = enter_field(__func__, handle, "mig_devices", &migs);
    *count = MAX_MIGS;
    return leave(result);
}

/* A MIG device's is "NVIDIA A100-SXM4-80GB MIG 1g.10gb". */
EXPORT Return nvmlDeviceGetName(const Handle *handle, char *name, unsigned int size) {
    char whole[256];
    const Json *part = NULL;
    Return result = enter_part(__func__, handle, &part);
    if (result != SUCCESS)
        return leave(result);
    const Json *device = json_member(device_at((unsigned int)handle->index), "name");
    const Json *profile = json_member(part, "profile");
    if (!json_there(device))
        return leave(NOT_SUPPORTED);
    snprintf(whole, sizeof whole, "%s%s%s", device->text, profile == NULL ? "" : " MIG ",
             profile == NULL ? "" : profile->text);
    return leave(copy_text(whole, name, size));
}

EXPORT Return nvmlDeviceGetPciInfo_v3(const Handle *handle, Pci *pci) {
    const Json *bus_id = NULL;
    Return result = enter_field(__func__, handle, "pci_bus_id", &bus_id);
    if (result == SUCCESS) {
        *pci = (Pci){0};
        snprintf(pci->bus_id, sizeof pci->bus_id, "%s", bus_id->text);
        sscanf(bus_id->text, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device);
    }
    return leave(result);
}

static unsigned long long member(const Json *object, const char *name) {
    return json_integer(json_member(object, name));
}

EXPORT Return nvmlDeviceGetMemoryInfo(const Handle *handle, Memory *memory) {
    const Json *found = NULL;
    Return result = enter_field(__func__, handle, "memory", &found);
    if (result == SUCCESS) {
        unsigned long long used = member(found, "used") + member(found, "reserved");
        *memory = (Memory){member(found, "total"), member(found, "total") - used, used};
    }
    return leave(result);
}

EXPORT Return nvmlDeviceGetMemoryInfo_v2(const Handle *handle, MemoryV2 *memory) {
    const Json *found = NULL;
    Return result = enter_field(__func__, handle, "memory", &found);
    if (result == SUCCESS && memory->version != (sizeof(MemoryV2) | 2u << 24))
        result = ARGUMENT_VERSION_MISMATCH;
    if (result == SUCCESS) {
        memory->total = member(found, "total");
        memory->reserved = member(found, "reserved");
        memory->used = member(found, "used");
        memory->free = memory->total - memory->used - memory->reserved;
    }
    return leave(result);
}

/* Adds the processes of one part to the `found` that are in `list`, or would be. */
static void list_processes(const Json *part, const char *field, unsigned int capacity,
                           Process *list, unsigned int *found) {
    bool mig = json_member(part, "profile") != NULL;
    const Json *running = json_member(part, field);
    const Json *each = running == NULL ? NULL : running->first;
    for (; each != NULL; each = each->next, ++*found)
        if (list != NULL && *found < capacity)
            list[*found] = (Process){
                (unsigned int)strtoul(each->key, NULL, 10),
                json_there(each) ? json_integer(each) : -1ULL,
                mig ? (unsigned int)member(part, "gpu_instance_id") : NO_INSTANCE,
                mig ? (unsigned int)member(part, "compute_instance_id") : NO_INSTANCE,
            };
}

/* A device's list has the processes of its MIG devices as well. */
static Return processes(const char *call, const Handle *handle, const char *field,
                        unsigned int *count, Process *list) {
    const Json *part = NULL;
    Return result = enter_part(call, handle, &part);
    unsigned int found = 0;
    if (result != SUCCESS)
        return leave(result);
    list_processes(part, field, *count, list, &found);
    for (unsigned int place = 0; mig_at(part, place) != NULL; place++)
        list_processes(mig_at(part, place), field, *count, list, &found);
    result = found > (list == NULL ? 0 : *count) ? INSUFFICIENT_SIZE : SUCCESS;
    *count = found;
    return leave(result);
}

#define PROCESSES(function, field)                                                         \
    EXPORT Return function(const Handle *handle, unsigned int *count, Process *list) {      \
        return processes(__func__, handle, field, count, list);                            \
    }

PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, "compute")
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, "compute")
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, "graphics")
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, "graphics")
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v2, "mps")
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3, "mps")

/* The samples after `since`, as one of the two structures; `count` is the room for them, and
 * becomes how many there are. */
static Return samples(const char *call, const Handle *handle, unsigned long long since,
                      unsigned int *count, ProcessSample *list, ProcessSampleV1 *list_v1) {
    const Json *all = NULL;
    Return result = enter_field(call, handle, "process_samples", &all);
    unsigned int found = 0;
    if (result != SUCCESS)
        return leave(result);
    for (const Json *each = all->first; each != NULL; each = each->next) {
        unsigned long long timestamp = member(each, "timestamp");
        if (timestamp <= since)
            continue;
        ProcessSample sample = {
            (unsigned int)member(each, "pid"),     timestamp,
            (unsigned int)member(each, "sm"),      (unsigned int)member(each, "memory"),
            (unsigned int)member(each, "encoder"), (unsigned int)member(each, "decoder"),
        };
        if (list != NULL && found < *count)
            list[found] = sample;
        if (list_v1 != NULL && found < *count)
            list_v1[found] = (ProcessSampleV1){timestamp,      sample.pid,     sample.sm, sample.memory,
                                               sample.encoder, sample.decoder, 0,         0};
        found++;
    }
    bool fits = (list != NULL || list_v1 != NULL) && found <= *count;
    *count = found;
    return leave(found == 0 ? NOT_FOUND : fits ? SUCCESS : INSUFFICIENT_SIZE);
}

EXPORT Return nvmlDeviceGetProcessUtilization(const Handle *handle, ProcessSample *list,
                                              unsigned int *count, unsigned long long since) {
    return samples(__func__, handle, since, count, list, NULL);
}

EXPORT Return nvmlDeviceGetProcessesUtilizationInfo(const Handle *handle, ProcessSamplesV1 *info) {
    if (info->version != (sizeof(ProcessSamplesV1) | 1u << 24))
        return ARGUMENT_VERSION_MISMATCH;
    return samples(__func__, handle, info->last_seen, &info->count, NULL, info->samples);
}

EXPORT Return nvmlDeviceGetNumFans(const Handle *handle, unsigned int *count) {
    const Json *fans = NULL;
    Return result = enter_field(__func__, handle, "fan_speeds", &fans);
    if (result == SUCCESS)
        *count = json_length(fans);
    return leave(result);
}

EXPORT Return nvmlDeviceGetFieldValues(const Handle *handle, int count, FieldValue *values) {
    const Json *part = NULL;
    Return result = enter_part(__func__, handle, &part);
    for (int i = 0; result == SUCCESS && i < count; i++) {
        FieldValue *value = &values[i];
        const Json *found = json_member(part, "field_values");
        value->result = json_there(found) ? select_from(&found, 1, &value->field) : NOT_SUPPORTED;
        if (value->result == SUCCESS && found->kind == JSON_OBJECT)
            value->result = select_from(&found, 1, &value->scope);
        const Json *error = json_member(part, "field_errors");
        if (json_there(error) && select_from(&error, 1, &value->field) == SUCCESS)
            value->result = (Return)json_integer(error);
        if (value->result != SUCCESS)
            continue;
        value->value.integer = json_integer(found);
        value->type = *found->text == '-' ? SIGNED_LONG_LONG : UNSIGNED_LONG_LONG;
        if (json_is_fraction(found)) {
            value->value.fraction = strtod(found->text, NULL);
            value->type = DOUBLE;
        }
    }
    return leave(result);
}

EXPORT Return nvmlEventSetCreate(EventSet **set) {
    Return result = enter(__func__, "-");
    EventSet *free_set = NULL;
    for (int i = 0; free_set == NULL && i < MAX_EVENT_SETS; i++)
        if (!event_sets[i].used)
            free_set = &event_sets[i];
    if (result == SUCCESS && free_set == NULL)
        result = INVALID_ARGUMENT;
    if (result == SUCCESS) {
        *free_set = (EventSet){.used = true, .seen = json_length(json_member(state, "events"))};
        *set = free_set;
    }
    return leave(result);
}

EXPORT Return nvmlEventSetFree(EventSet *set) {
    Return result = enter(__func__, "-");
    set->used = false;
    return leave(result);
}

EXPORT Return nvmlDeviceRegisterEvents(const Handle *handle, unsigned long long types,
                                       EventSet *set) {
    const Json *supported = NULL;
    Return result = enter_field(__func__, handle, "event_types", &supported);
    if (result == SUCCESS && (types & ~json_integer(supported)) != 0)
        result = NOT_SUPPORTED;
    if (result == SUCCESS)
        set->types[handle->index] |= types;
    return leave(result);
}

static unsigned int instance(const Json *event, const char *name) {
    const Json *number = json_member(event, name);
    return json_there(number) ? (unsigned int)json_integer(number) : NO_INSTANCE;
}

/* Whether there is an event for the set; it is in `event` then. */
static bool next_event(EventSet *set, Event *event) {
    const Json *events = json_member(state, "events");
    if (set->seen > json_length(events))
        set->seen = json_length(events);
    while (set->seen < json_length(events)) {
        const Json *found = json_element(events, set->seen++);
        unsigned int index = (unsigned int)member(found, "device");
        unsigned long long type = member(found, "type");
        if (index < MAX_DEVICES && (set->types[index] & type) != 0) {
            *event = (Event){handle_of(index, -1), type, member(found, "data"),
                             instance(found, "gpu_instance_id"),
                             instance(found, "compute_instance_id")};
            return true;
        }
    }
    return false;
}

EXPORT Return nvmlEventSetWait_v2(EventSet *set, Event *event, unsigned int milliseconds) {
    struct timespec begun, now;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    while (true) {
        Return result = enter(__func__, "-");
        if (result != SUCCESS || next_event(set, event))
            return leave(result);
        clock_gettime(CLOCK_MONOTONIC, &now);
        if ((now.tv_sec - begun.tv_sec) * 1000 + (now.tv_nsec - begun.tv_nsec) / 1000000 >=
            (long)milliseconds)
            return leave(TIMEOUT);
        pause_briefly();
        leave(SUCCESS);
    }
}
