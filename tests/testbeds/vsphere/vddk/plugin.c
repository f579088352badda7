/* An nbdkit plugin with the parameters of nbdkit-vddk-plugin, linked with the stand-in library: for
 * machines where the real plugin, which would load that library, is not installed. */
#define _GNU_SOURCE
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "vixdisklib.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS
#define SECTOR 512
#define CHUNK 128 /* sectors of the blocks in which allocation is told */
#define READ_ONLY 4

#define PARAMETERS(X) X(file) X(server) X(user) X(password) X(thumbprint) X(vm) X(snapshot) \
  X(transports) X(libdir) X(compression) X(port) X(cookie) X(nfchostport) X(config)
#define AS_FIELD(name) char *name;
#define AS_NAME(name) { #name, &given.name },

static struct { PARAMETERS(AS_FIELD) } given;
static const struct { const char *name; char **value; } parameters[] = { PARAMETERS(AS_NAME) };

typedef struct { VixConnection *connection; VixDisk *disk; uint64_t size; } Handle;

static void log_debug(const char *format, va_list arguments) {
  char *text;
  if (vasprintf(&text, format, arguments) < 0) return;
  nbdkit_debug("%s", text);
  free(text);
}

static void log_error(const char *format, va_list arguments) {
  char *text;
  if (vasprintf(&text, format, arguments) < 0) return;
  nbdkit_error("%s", text);
  free(text);
}

static int config(const char *key, const char *value) {
  static const char *compressions[] = { "none", "zlib", "fastlz", "skipz" };
  for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++) {
    if (strcmp(parameters[i].name, key)) continue;
    char **to = parameters[i].value;
    if (to == &given.compression) {
      int known = 0;
      for (size_t k = 0; k < 4; k++) known |= !strcmp(compressions[k], value);
      if (!known) { nbdkit_error("unknown compression type: %s", value); return -1; }
    }
    if (to == &given.password) return nbdkit_read_password(value, to);
    if (to == &given.cookie && (*value == '+' || *value == '-'))
      return nbdkit_read_password(value, to);
    free(*to);
    *to = strdup(value);
    return 0;
  }
  nbdkit_error("unknown parameter '%s'", key);
  return -1;
}

static int config_complete(void) {
  const struct { const char *name, *value; } needed[] = {
    { "file", given.file }, { "server", given.server }, { "user", given.user },
    { "password", given.password }, { "vm", given.vm } };
  for (size_t i = 0; i < 5; i++)
    if (!needed[i].value) {
      nbdkit_error("remote connection requested, missing parameter: %s", needed[i].name);
      return -1;
    }
  return 0;
}

static int get_ready(void) {
  return VixDiskLib_InitEx(8, 0, log_debug, log_error, log_error, given.libdir, given.config)
         ? -1 : 0;
}

static int failed(const char *what, VixError error) {
  char *text = VixDiskLib_GetErrorText(error, NULL);
  nbdkit_error("%s: %s", what, text);
  VixDiskLib_FreeErrorText(text);
  errno = EIO;
  return -1;
}

static void *open_disk(int read_only) {
  VixConnectParams p = { .vmxSpec = given.vm, .serverName = given.server,
    .thumbPrint = given.thumbprint, .port = given.port ? atoi(given.port) : 443 };
  if (given.cookie) {
    p.credType = 2;
    p.creds.sessionId.cookie = given.cookie;
    p.creds.sessionId.userName = given.user;
    p.creds.sessionId.key = given.password;
  } else {
    p.credType = 1;
    p.creds.uid.userName = given.user;
    p.creds.uid.password = given.password;
  }
  Handle *h = calloc(1, sizeof *h);
  VixInfo *info;
  VixError error = VixDiskLib_ConnectEx(&p, read_only, given.snapshot, given.transports,
                                        &h->connection);
  if (error) { failed("VixDiskLib_ConnectEx", error); free(h); return NULL; }
  error = VixDiskLib_Open(h->connection, given.file, read_only ? READ_ONLY : 0, &h->disk);
  if (error) {
    failed("VixDiskLib_Open", error);
    VixDiskLib_Disconnect(h->connection);
    free(h);
    return NULL;
  }
  nbdkit_debug("transport mode: %s", VixDiskLib_GetTransportMode(h->disk));
  VixDiskLib_GetInfo(h->disk, &info);
  h->size = info->capacity * SECTOR;
  VixDiskLib_FreeInfo(info);
  return h;
}

static void close_disk(void *handle) {
  Handle *h = handle;
  VixDiskLib_Close(h->disk);
  VixDiskLib_Disconnect(h->connection);
  free(h);
}

static int64_t get_size(void *handle) { return ((Handle *)handle)->size; }
static int can_extents(void *handle) { return 1; }
static int can_flush(void *handle) { return 1; }
static int can_fua(void *handle) { return NBDKIT_FUA_EMULATE; }

static int block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum) {
  *minimum = SECTOR;
  *preferred = 4096;
  *maximum = 0xffffffff;
  return 0;
}

static int aligned(uint32_t count, uint64_t offset) {
  if (count % SECTOR == 0 && offset % SECTOR == 0) return 1;
  nbdkit_error("%u bytes at %llu are no whole sectors", count, (unsigned long long)offset);
  errno = EINVAL;
  return 0;
}

static int read_disk(void *handle, void *buffer, uint32_t count, uint64_t offset, uint32_t flags) {
  if (!aligned(count, offset)) return -1;
  VixError error = VixDiskLib_Read(((Handle *)handle)->disk, offset / SECTOR, count / SECTOR,
                                   buffer);
  return error ? failed("VixDiskLib_ReadAsync", error) : 0;
}

static int write_disk(void *handle, const void *buffer, uint32_t count, uint64_t offset,
                      uint32_t flags) {
  if (!aligned(count, offset)) return -1;
  VixError error = VixDiskLib_Write(((Handle *)handle)->disk, offset / SECTOR, count / SECTOR,
                                    buffer);
  return error ? failed("VixDiskLib_WriteAsync", error) : 0;
}

static int flush_disk(void *handle, uint32_t flags) {
  VixError error = VixDiskLib_Flush(((Handle *)handle)->disk);
  return error ? failed("VixDiskLib_Flush", error) : 0;
}

static int extents_of(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                      struct nbdkit_extents *extents) {
  Handle *h = handle;
  const uint64_t step = CHUNK * SECTOR;
  uint64_t at = offset / step * step, end = (offset + count + step - 1) / step * step;
  VixBlockList *list;
  VixError error = VixDiskLib_QueryAllocatedBlocks(h->disk, at / SECTOR, (end - at) / SECTOR, CHUNK,
                                                   &list);
  if (error) return failed("VixDiskLib_QueryAllocatedBlocks", error);
  if (end > h->size) end = h->size;
  int result = 0;
  for (uint32_t i = 0; i <= list->numBlocks && !result; i++) {
    uint64_t from = i < list->numBlocks ? list->blocks[i].offset * SECTOR : end;
    uint64_t to = i < list->numBlocks ? from + list->blocks[i].length * SECTOR : end;
    if (from > at)
      result = nbdkit_add_extent(extents, at, from - at, NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO);
    if (!result && to > from) result = nbdkit_add_extent(extents, from, to - from, 0);
    at = to;
  }
  VixDiskLib_FreeBlockList(list);
  return result;
}

static struct nbdkit_plugin plugin = {
  .name = "vddk", .version = "stand-in", .config = config, .config_complete = config_complete,
  .magic_config_key = "file", .get_ready = get_ready, .open = open_disk, .close = close_disk,
  .get_size = get_size, .can_extents = can_extents, .can_flush = can_flush, .can_fua = can_fua,
  .block_size = block_size, .pread = read_disk, .pwrite = write_disk, .flush = flush_disk,
  .extents = extents_of };
NBDKIT_REGISTER_PLUGIN(plugin)
