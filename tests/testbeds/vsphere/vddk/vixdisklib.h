/* The part of VMware's public libvixDiskLib interface (VDDK programming guide) that nbdkit's vddk
 * plugin calls. Names and order of fields are the library's, since the real plugin loads us. */
#ifndef VIXDISKLIB_H
#define VIXDISKLIB_H

#include <stdarg.h>
#include <stdint.h>

typedef uint64_t VixError;
enum {
  VIX_OK = 0, VIX_E_FAIL = 1, VIX_E_FILE_NOT_FOUND = 4, VIX_E_NOT_SUPPORTED = 6,
  VIX_E_FILE_ACCESS_ERROR = 13, VIX_E_TRANSPORT = 14, VIX_E_FILE_ALREADY_LOCKED = 24,
  VIX_E_HOST_USER_PERMISSIONS = 3014, VIX_E_HOST_CONNECTION = 14009, VIX_E_INVALID_ARG = 16000,
  VIX_ASYNC = 25000
};

typedef void VixLog(const char *format, va_list arguments);
typedef void (*VixDone)(void *data, VixError result);

typedef struct {
  char *vmxSpec, *serverName, *thumbPrint;
  long privateUse;
  int credType; /* 1: user and password, 2: session */
  union {
    struct { char *userName, *password; } uid;
    struct { char *cookie, *userName, *key; } sessionId;
    void *other;
  } creds;
  uint32_t port, nfcHostPort;
  char *vimApiVer, reserved[8];
  void *state;
  union { struct { char *id, *datastoreMoRef, *ssId; } vStorageObjSpec; } spec;
  int specType;
} VixConnectParams;

typedef struct { uint32_t cylinders, heads, sectors; } VixGeometry;
typedef struct {
  VixGeometry bios, physical;
  uint64_t capacity; /* sectors */
  int adapterType, numLinks;
  char *parentFileNameHint, *uuid;
  uint32_t logicalSectorSize, physicalSectorSize;
} VixInfo;
typedef struct { uint64_t offset, length; } VixBlock; /* sectors */
typedef struct { uint32_t numBlocks; VixBlock blocks[1]; } VixBlockList;

typedef struct VixConnection VixConnection;
typedef struct VixDisk VixDisk;

VixError VixDiskLib_InitEx(uint32_t major, uint32_t minor, VixLog *log, VixLog *warn, VixLog *panic,
                           const char *libDir, const char *configFile);
void VixDiskLib_Exit(void);
const char *VixDiskLib_ListTransportModes(void);
char *VixDiskLib_GetErrorText(VixError error, const char *locale);
void VixDiskLib_FreeErrorText(char *text);
VixConnectParams *VixDiskLib_AllocateConnectParams(void);
void VixDiskLib_FreeConnectParams(VixConnectParams *params);
VixError VixDiskLib_ConnectEx(const VixConnectParams *params, char readOnly, const char *snapshot,
                              const char *transports, VixConnection **connection);
VixError VixDiskLib_Disconnect(VixConnection *connection);
VixError VixDiskLib_Open(VixConnection *connection, const char *path, uint32_t flags, VixDisk **disk);
VixError VixDiskLib_Close(VixDisk *disk);
const char *VixDiskLib_GetTransportMode(VixDisk *disk);
VixError VixDiskLib_GetInfo(VixDisk *disk, VixInfo **info);
void VixDiskLib_FreeInfo(VixInfo *info);
VixError VixDiskLib_Read(VixDisk *disk, uint64_t start, uint64_t sectors, unsigned char *buffer);
VixError VixDiskLib_Write(VixDisk *disk, uint64_t start, uint64_t sectors,
                          const unsigned char *buffer);
VixError VixDiskLib_ReadAsync(VixDisk *disk, uint64_t start, uint64_t sectors,
                              unsigned char *buffer, VixDone done, void *data);
VixError VixDiskLib_WriteAsync(VixDisk *disk, uint64_t start, uint64_t sectors,
                               const unsigned char *buffer, VixDone done, void *data);
VixError VixDiskLib_Flush(VixDisk *disk);
VixError VixDiskLib_Wait(VixDisk *disk);
VixError VixDiskLib_Create(VixConnection *connection, const char *path, const void *params,
                           void *progress, void *data);
VixError VixDiskLib_QueryAllocatedBlocks(VixDisk *disk, uint64_t start, uint64_t sectors,
                                         uint64_t chunk, VixBlockList **list);
VixError VixDiskLib_FreeBlockList(VixBlockList *list);

#endif
