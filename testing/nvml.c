/* A simulated libnvidia-ml.so.1: the functions that the exporter calls through pynvml.
 *
 * What it tells is in the file that VGPUMONITOR_SIMULATED_NVML names; state.py describes
 * it. The file is looked at in every call and read again when it was replaced. Structures and
 * numbers are those of NVIDIA's nvml.h, as pynvml has them.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))
#define STATE_VARIABLE "VGPUMONITOR_SIMULATED_NVML"

enum { MAX_CARDS = 32, MAX_MIGS = 7, MAX_PROCESSES = 4096, MAX_RULES = 256 };
enum { TEXT = 96, TARGET = 16 };

typedef enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    VERSION_MISMATCH = 25,
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

/* A card or a MIG device. In a MIG device only the fields of the first group are set. */
typedef struct Part {
    char target[TARGET], uuid[TEXT];
    struct Part *card; /* of a MIG device; NULL in a card */
    bool has_memory;
    unsigned long long total, used, reserved;
    unsigned int gpu_instance, compute_instance;

    char name[TEXT]; /* a MIG device's profile */
    bool has_minor, has_utilization, has_power, has_temperature, has_ecc, has_throttle;
    unsigned int minor, power, temperature;
    Utilization utilization;
    unsigned long long ecc[2], throttle;
} Part;

typedef struct {
    const Part *part;
    bool graphics;
    Process process;
} Running;

typedef struct {
    char call[TEXT], target[TARGET];
    int code; /* 0: hangs */
} Rule;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool initialized;
static bool readable;
static struct stat seen;

/* A handle is the address of a part, which stays its place's as long as the process runs. */
static Part cards[MAX_CARDS], migs[MAX_CARDS][MAX_MIGS];
static int card_count, mig_counts[MAX_CARDS];
static Running running[MAX_PROCESSES];
static int running_count;
static Rule rules[MAX_RULES];
static int rule_count;
static char driver[TEXT];
static int cuda;

static bool read_process(const char *line, Part *part, bool graphics) {
    char held[32];
    unsigned int pid;
    if (part == NULL || running_count == MAX_PROCESSES || sscanf(line, "%u %31s", &pid, held) != 2)
        return false;
    unsigned long long used = strcmp(held, "-") == 0 ? -1ULL : strtoull(held, NULL, 10);
    unsigned int none = 0xffffffff;
    running[running_count++] = (Running){
        part,
        graphics,
        {pid, used, part->card ? part->gpu_instance : none, part->card ? part->compute_instance : none},
    };
    return true;
}

static bool read_line(const char *line, Part **card, Part **part) {
    char word[16];
    int length = 0;
    if (sscanf(line, "%15s %n", word, &length) != 1)
        return false;
    const char *rest = line + length;
    Part *c = *card;
    if (strcmp(word, "driver") == 0)
        return sscanf(rest, "%95s", driver) == 1;
    if (strcmp(word, "cuda") == 0)
        return sscanf(rest, "%d", &cuda) == 1;
    if (strcmp(word, "error") == 0 || strcmp(word, "hang") == 0) {
        if (rule_count == MAX_RULES)
            return false;
        Rule *rule = &rules[rule_count++];
        rule->code = 0;
        int found = sscanf(rest, "%95s %15s %d", rule->call, rule->target, &rule->code);
        return found == (word[0] == 'e' ? 3 : 2);
    }
    if (strcmp(word, "card") == 0) {
        if (card_count == MAX_CARDS)
            return false;
        mig_counts[card_count] = 0;
        *card = *part = c = &cards[card_count];
        *c = (Part){0};
        snprintf(c->target, TARGET, "%d", card_count++);
        return sscanf(rest, "%95s", c->uuid) == 1;
    }
    if (c == NULL)
        return false;
    if (strcmp(word, "mig") == 0) {
        int index = (int)(c - cards), place = mig_counts[index];
        if (place == MAX_MIGS)
            return false;
        Part *mig = *part = &migs[index][place];
        *mig = (Part){.card = c};
        mig_counts[index]++;
        snprintf(mig->target, TARGET, "%d.%d", index, place);
        return sscanf(rest, "%95s %u %u %95s", mig->uuid, &mig->gpu_instance,
                      &mig->compute_instance, mig->name) == 4;
    }
    if (strcmp(word, "memory") == 0)
        return (*part)->has_memory = sscanf(rest, "%llu %llu %llu", &(*part)->total,
                                            &(*part)->used, &(*part)->reserved) == 3;
    if (strcmp(word, "compute") == 0 || strcmp(word, "graphics") == 0)
        return read_process(rest, *part, word[0] == 'g');
    if (strcmp(word, "name") == 0)
        return sscanf(rest, "%95[^\n]", c->name) == 1;
    if (strcmp(word, "minor") == 0)
        return c->has_minor = sscanf(rest, "%u", &c->minor) == 1;
    if (strcmp(word, "utilization") == 0)
        return c->has_utilization =
                   sscanf(rest, "%u %u", &c->utilization.gpu, &c->utilization.memory) == 2;
    if (strcmp(word, "power") == 0)
        return c->has_power = sscanf(rest, "%u", &c->power) == 1;
    if (strcmp(word, "temperature") == 0)
        return c->has_temperature = sscanf(rest, "%u", &c->temperature) == 1;
    if (strcmp(word, "ecc") == 0)
        return c->has_ecc = sscanf(rest, "%llu %llu", &c->ecc[0], &c->ecc[1]) == 2;
    if (strcmp(word, "throttle") == 0)
        return c->has_throttle = sscanf(rest, "%llu", &c->throttle) == 1;
    return false;
}

/* Reads the state if it was replaced. Without a file, or with a wrong one, there is no driver. */
static void refresh(void) {
    const char *path = getenv(STATE_VARIABLE);
    FILE *file = path == NULL ? NULL : fopen(path, "re");
    struct stat now;
    if (file == NULL || fstat(fileno(file), &now) != 0) {
        readable = initialized = false;
        seen = (struct stat){0};
    } else if (now.st_ino != seen.st_ino || now.st_size != seen.st_size ||
               now.st_mtim.tv_sec != seen.st_mtim.tv_sec ||
               now.st_mtim.tv_nsec != seen.st_mtim.tv_nsec) {
        char line[256];
        Part *card = NULL, *part = NULL;
        seen = now;
        readable = true;
        card_count = running_count = rule_count = 0;
        for (int number = 1; readable && fgets(line, sizeof line, file) != NULL; number++) {
            readable = read_line(line, &card, &part);
            if (!readable)
                fprintf(stderr, "%s:%d: no line of a simulated NVML: %s", path, number, line);
        }
        initialized = initialized && readable;
    }
    if (file != NULL)
        fclose(file);
}

/* Whether a rule for `name` holds for `call`: the same, or the same without its version. */
static bool matches(const char *name, const char *call) {
    size_t length = strlen(name);
    if (strncmp(name, call, length) != 0)
        return false;
    return call[length] == '\0' || (strncmp(call + length, "_v", 2) == 0 &&
                                    strspn(call + length + 2, "0123456789") ==
                                        strlen(call + length + 2));
}

static const Rule *rule_for(const char *call, const char *target) {
    for (int i = 0; i < rule_count; i++)
        if (strcmp(rules[i].target, target) == 0 && matches(rules[i].call, call))
            return &rules[i];
    return NULL;
}

/* Begins a call with the lock held, which the caller releases with leave(). */
static Return enter_always(const char *call, const char *target) {
    pthread_mutex_lock(&lock);
    refresh();
    const Rule *rule = NULL;
    while (readable && (rule = rule_for(call, target)) != NULL && rule->code == 0) {
        pthread_mutex_unlock(&lock);
        nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
        pthread_mutex_lock(&lock);
        refresh();
    }
    if (!readable)
        return DRIVER_NOT_LOADED;
    return rule == NULL ? SUCCESS : (Return)rule->code;
}

static Return enter(const char *call, const char *target) {
    Return result = enter_always(call, target);
    return initialized ? result : UNINITIALIZED;
}

static Return leave(Return result) {
    pthread_mutex_unlock(&lock);
    return result;
}

static bool there(const Part *part) {
    if (part == NULL)
        return false;
    const Part *card = part->card == NULL ? part : part->card;
    int index = (int)(card - cards);
    return index < card_count && (part == card || (int)(part - migs[index]) < mig_counts[index]);
}

static Return enter_part(const char *call, const Part *part) {
    Return result = enter(call, part == NULL ? "-" : part->target);
    return result == SUCCESS && !there(part) ? INVALID_ARGUMENT : result;
}

static Return enter_card(const char *call, const Part *part, bool supported) {
    Return result = enter_part(call, part);
    return result == SUCCESS && (part->card != NULL || !supported) ? NOT_SUPPORTED : result;
}

static Return text(const char *value, char *buffer, unsigned int size) {
    if (strlen(value) >= size)
        return INSUFFICIENT_SIZE;
    strcpy(buffer, value);
    return SUCCESS;
}

EXPORT Return nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    Return result = enter_always(__func__, "-");
    initialized = result == SUCCESS;
    return leave(result);
}

EXPORT Return nvmlShutdown(void) {
    Return result = enter(__func__, "-");
    initialized = false;
    return leave(result);
}

EXPORT const char *nvmlErrorString(Return result) {
    (void)result;
    return "a simulated error";
}

EXPORT Return nvmlSystemGetDriverVersion(char *version, unsigned int size) {
    Return result = enter(__func__, "-");
    return leave(result != SUCCESS ? result : text(driver, version, size));
}

EXPORT Return nvmlSystemGetCudaDriverVersion(int *version) {
    Return result = enter(__func__, "-");
    *version = cuda;
    return leave(result);
}

EXPORT Return nvmlDeviceGetCount_v2(unsigned int *count) {
    Return result = enter(__func__, "-");
    *count = (unsigned int)card_count;
    return leave(result);
}

EXPORT Return nvmlDeviceGetHandleByIndex_v2(unsigned int index, Part **handle) {
    char target[TARGET];
    snprintf(target, sizeof target, "%u", index);
    Return result = enter(__func__, target);
    if (result == SUCCESS && index >= (unsigned int)card_count)
        result = INVALID_ARGUMENT;
    if (result == SUCCESS)
        *handle = &cards[index];
    return leave(result);
}

EXPORT Return nvmlDeviceGetUUID(const Part *part, char *uuid, unsigned int size) {
    Return result = enter_part(__func__, part);
    return leave(result != SUCCESS ? result : text(part->uuid, uuid, size));
}

EXPORT Return nvmlDeviceGetName(const Part *part, char *name, unsigned int size) {
    char whole[2 * TEXT + 8];
    Return result = enter_part(__func__, part);
    if (result != SUCCESS)
        return leave(result);
    const Part *card = part->card == NULL ? part : part->card;
    if (card->name[0] == '\0')
        return leave(NOT_SUPPORTED);
    snprintf(whole, sizeof whole, "%s%s%s", card->name, part->card ? " MIG " : "",
             part->card ? part->name : "");
    return leave(text(whole, name, size));
}

EXPORT Return nvmlDeviceGetMinorNumber(const Part *part, unsigned int *minor) {
    Return result = enter_card(__func__, part, part != NULL && part->has_minor);
    if (result == SUCCESS)
        *minor = part->minor;
    return leave(result);
}

EXPORT Return nvmlDeviceGetMemoryInfo(const Part *part, Memory *memory) {
    Return result = enter_part(__func__, part);
    if (result == SUCCESS && !part->has_memory)
        result = NOT_SUPPORTED;
    if (result == SUCCESS) {
        unsigned long long used = part->used + part->reserved;
        *memory = (Memory){part->total, part->total - used, used};
    }
    return leave(result);
}

EXPORT Return nvmlDeviceGetMemoryInfo_v2(const Part *part, MemoryV2 *memory) {
    Return result = enter_part(__func__, part);
    if (result == SUCCESS && !part->has_memory)
        result = NOT_SUPPORTED;
    if (result == SUCCESS && memory->version != (sizeof(MemoryV2) | 2u << 24))
        result = VERSION_MISMATCH;
    if (result == SUCCESS) {
        memory->total = part->total;
        memory->reserved = part->reserved;
        memory->used = part->used;
        memory->free = part->total - part->used - part->reserved;
    }
    return leave(result);
}

EXPORT Return nvmlDeviceGetUtilizationRates(const Part *part, Utilization *utilization) {
    Return result = enter_card(__func__, part, part != NULL && part->has_utilization);
    if (result == SUCCESS)
        *utilization = part->utilization;
    return leave(result);
}

EXPORT Return nvmlDeviceGetPowerUsage(const Part *part, unsigned int *milliwatts) {
    Return result = enter_card(__func__, part, part != NULL && part->has_power);
    if (result == SUCCESS)
        *milliwatts = part->power;
    return leave(result);
}

EXPORT Return nvmlDeviceGetTemperature(const Part *part, int sensor, unsigned int *celsius) {
    (void)sensor;
    Return result = enter_card(__func__, part, part != NULL && part->has_temperature);
    if (result == SUCCESS)
        *celsius = part->temperature;
    return leave(result);
}

EXPORT Return nvmlDeviceGetTotalEccErrors(const Part *part, unsigned int type,
                                          unsigned int counter, unsigned long long *count) {
    (void)counter;
    Return result = enter_card(__func__, part, part != NULL && part->has_ecc);
    if (result == SUCCESS && type > 1)
        result = INVALID_ARGUMENT;
    if (result == SUCCESS)
        *count = part->ecc[type];
    return leave(result);
}

static Return clock_reasons(const char *call, const Part *part, unsigned long long *reasons) {
    Return result = enter_card(call, part, part != NULL && part->has_throttle);
    if (result == SUCCESS)
        *reasons = part->throttle;
    return leave(result);
}

EXPORT Return nvmlDeviceGetCurrentClocksEventReasons(const Part *part, unsigned long long *reasons) {
    return clock_reasons(__func__, part, reasons);
}

EXPORT Return nvmlDeviceGetCurrentClocksThrottleReasons(const Part *part,
                                                        unsigned long long *reasons) {
    return clock_reasons(__func__, part, reasons);
}

/* A card's list has the processes of its MIG devices as well. */
static Return processes(const char *call, const Part *part, bool graphics, unsigned int *count,
                        Process *list) {
    Return result = enter_part(call, part);
    unsigned int found = 0;
    if (result != SUCCESS)
        return leave(result);
    for (int i = 0; i < running_count; i++) {
        const Running *it = &running[i];
        if (it->graphics == graphics && (it->part == part || it->part->card == part)) {
            if (list != NULL && found < *count)
                list[found] = it->process;
            found++;
        }
    }
    result = found > (list == NULL ? 0 : *count) ? INSUFFICIENT_SIZE : SUCCESS;
    *count = found;
    return leave(result);
}

EXPORT Return nvmlDeviceGetComputeRunningProcesses_v2(const Part *part, unsigned int *count,
                                                      Process *list) {
    return processes(__func__, part, false, count, list);
}

EXPORT Return nvmlDeviceGetComputeRunningProcesses_v3(const Part *part, unsigned int *count,
                                                      Process *list) {
    return processes(__func__, part, false, count, list);
}

EXPORT Return nvmlDeviceGetGraphicsRunningProcesses_v2(const Part *part, unsigned int *count,
                                                       Process *list) {
    return processes(__func__, part, true, count, list);
}

EXPORT Return nvmlDeviceGetGraphicsRunningProcesses_v3(const Part *part, unsigned int *count,
                                                       Process *list) {
    return processes(__func__, part, true, count, list);
}

EXPORT Return nvmlDeviceGetMigMode(const Part *part, unsigned int *current, unsigned int *pending) {
    Return result = enter_card(__func__, part, true);
    if (result == SUCCESS && mig_counts[part - cards] == 0)
        result = NOT_SUPPORTED;
    *current = *pending = 1;
    return leave(result);
}

EXPORT Return nvmlDeviceGetMaxMigDeviceCount(const Part *part, unsigned int *count) {
    Return result = enter_card(__func__, part, true);
    *count = MAX_MIGS;
    return leave(result);
}

EXPORT Return nvmlDeviceGetMigDeviceHandleByIndex(const Part *card, unsigned int place,
                                                  Part **handle) {
    char target[TARGET];
    int index = (int)(card - cards);
    snprintf(target, sizeof target, "%d.%u", index, place);
    Return result = enter(__func__, target);
    if (result == SUCCESS && (!there(card) || card->card != NULL))
        result = INVALID_ARGUMENT;
    if (result == SUCCESS && place >= (unsigned int)mig_counts[index])
        result = NOT_FOUND;
    if (result == SUCCESS)
        *handle = &migs[index][place];
    return leave(result);
}

EXPORT Return nvmlDeviceGetGpuInstanceId(const Part *part, unsigned int *id) {
    Return result = enter_part(__func__, part);
    if (result == SUCCESS && part->card == NULL)
        result = NOT_SUPPORTED;
    if (result == SUCCESS)
        *id = part->gpu_instance;
    return leave(result);
}

EXPORT Return nvmlDeviceGetComputeInstanceId(const Part *part, unsigned int *id) {
    Return result = enter_part(__func__, part);
    if (result == SUCCESS && part->card == NULL)
        result = NOT_SUPPORTED;
    if (result == SUCCESS)
        *id = part->compute_instance;
    return leave(result);
}
