/* A stand-in for VMware's libvixDiskLib, for tests: its public interface and its rules, over the
 * files of the simulator. The simulator is asked, at the address and with the thumbprint and login
 * that the product gives, which file a disk is, and told what was moved when it is closed.
 *
 * Environment: HS_VDDK_TRANSPORTS, the transports that there are (default "nbdssl:nbd");
 * HS_VDDK_LARGEST, bytes of the largest request over nbd (default 64 MiB). */
#define _GNU_SOURCE
#include "vixdisklib.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/ssl.h>

#define SECTOR 512
#define BUFFER (4u << 20) /* NFC memory that a host keeps for an open disk */
#define MIN_CHUNK 128     /* sectors */
#define API __attribute__((visibility("default")))

struct VixConnection { VixConnectParams p; char *snapshot; const char *mode; int read_only; };
struct VixDisk {
  VixConnection *c;
  int fd, read_only;
  uint64_t size, requests, read, written, largest;
  char lease[32];
};

static VixLog *log_fn, *warn_fn;

static void say(VixLog *f, const char *format, ...) {
  va_list arguments;
  if (!f) return;
  va_start(arguments, format);
  f(format, arguments);
  va_end(arguments);
}

static char *copy(const char *s) { return s ? strdup(s) : NULL; }

static int dial(const char *host, unsigned port) {
  char service[16];
  struct addrinfo *list = NULL, hint = { .ai_socktype = SOCK_STREAM };
  int s = -1;
  snprintf(service, sizeof service, "%u", port ? port : 443);
  if (getaddrinfo(host, service, &hint, &list)) return -1;
  for (struct addrinfo *a = list; a && s < 0; a = a->ai_next) {
    s = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, 0);
    if (s >= 0 && connect(s, a->ai_addr, a->ai_addrlen)) { close(s); s = -1; }
  }
  freeaddrinfo(list);
  return s;
}

static int trusted(SSL *ssl, const char *thumbprint) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  char text[3 * EVP_MAX_MD_SIZE + 1] = "";
  X509 *certificate = SSL_get1_peer_certificate(ssl);
  X509_digest(certificate, EVP_sha1(), digest, &length);
  X509_free(certificate);
  for (unsigned i = 0; i < length; i++)
    sprintf(text + 3 * i, "%02X%s", digest[i], i + 1 < length ? ":" : "");
  if (thumbprint && !strcasecmp(text, thumbprint)) return 1;
  say(log_fn, "VixDiskLibVim: Failed to verify SSL certificate: actual thumbprint=%s expected=%s\n",
      text, thumbprint ? thumbprint : "");
  return 0;
}

static char *login(const VixConnectParams *p) {
  char *header = NULL;
  if (p->credType == 2) {
    const char *cookie = p->creds.sessionId.cookie;
    return asprintf(&header, "Cookie: %s%s", strchr(cookie, '=') ? "" : "vmware_soap_session=",
                    cookie) < 0 ? NULL : header;
  }
  char *plain = NULL;
  int length = asprintf(&plain, "%s:%s", p->creds.uid.userName, p->creds.uid.password);
  if (length < 0) return NULL;
  unsigned char *coded = calloc(1, 4 * (length / 3 + 1) + 1);
  EVP_EncodeBlock(coded, (unsigned char *)plain, length);
  if (asprintf(&header, "Authorization: Basic %s", coded) < 0) header = NULL;
  free(plain);
  free(coded);
  return header;
}

enum { NO_CONNECTION = -1, NOT_TRUSTED = -2 };

/* One GET; the body is left in answer. Returns the status of HTTP, or one of the above. */
static int ask(const VixConnectParams *p, const char *path, char *answer, size_t room) {
  int status = NO_CONNECTION, s = dial(p->serverName, p->port);
  if (s < 0) return status;
  SSL_CTX *context = SSL_CTX_new(TLS_client_method());
  SSL *ssl = SSL_new(context);
  char *request = NULL, *header = login(p);
  size_t got = 0;
  SSL_set_fd(ssl, s);
  if (SSL_connect(ssl) != 1) goto out;
  if (!trusted(ssl, p->thumbPrint)) { status = NOT_TRUSTED; goto out; }
  int length = asprintf(&request, "GET %s HTTP/1.0\r\nHost: %s\r\n%s\r\n\r\n", path, p->serverName,
                        header ? header : "");
  if (length < 0 || SSL_write(ssl, request, length) != length) goto out;
  for (int n; got + 1 < room && (n = SSL_read(ssl, answer + got, room - 1 - got)) > 0;) got += n;
  answer[got] = 0;
  if (sscanf(answer, "HTTP/%*s %d", &status) == 1) {
    char *body = strstr(answer, "\r\n\r\n");
    if (body) memmove(answer, body + 4, strlen(body + 4) + 1);
  }
out:
  free(request);
  free(header);
  SSL_free(ssl);
  SSL_CTX_free(context);
  close(s);
  return status;
}

static void escaped(char *to, const char *s) {
  for (; s && *s; s++)
    to += sprintf(to, (*s >= '0' && *s <= '9') || ((*s | 32) >= 'a' && (*s | 32) <= 'z') ||
                      strchr("-_.~", *s) ? "%c" : "%%%02X", (unsigned char)*s);
  *to = 0;
}

API VixError VixDiskLib_InitEx(uint32_t major, uint32_t minor, VixLog *log, VixLog *warn,
                               VixLog *panic, const char *libDir, const char *configFile) {
  log_fn = log;
  warn_fn = warn;
  return VIX_OK;
}

API void VixDiskLib_Exit(void) { }

API const char *VixDiskLib_ListTransportModes(void) {
  const char *modes = getenv("HS_VDDK_TRANSPORTS");
  return modes ? modes : "nbdssl:nbd";
}

API char *VixDiskLib_GetErrorText(VixError error, const char *locale) {
  switch (error) {
  case VIX_E_FILE_NOT_FOUND: return strdup("The file was not found");
  case VIX_E_FILE_ACCESS_ERROR: return strdup("You do not have access rights to this file");
  case VIX_E_FILE_ALREADY_LOCKED: return strdup("The file is already in use");
  case VIX_E_HOST_USER_PERMISSIONS:
    return strdup("Insufficient permissions in the host operating system");
  case VIX_E_HOST_CONNECTION: return strdup("The server refused connection");
  case VIX_E_INVALID_ARG: return strdup("One of the parameters was invalid");
  case VIX_E_TRANSPORT: return strdup("The specified transport mode is not available");
  default: return strdup("Unknown error");
  }
}

API void VixDiskLib_FreeErrorText(char *text) { free(text); }
API VixConnectParams *VixDiskLib_AllocateConnectParams(void) {
  return calloc(1, sizeof(VixConnectParams));
}
API void VixDiskLib_FreeConnectParams(VixConnectParams *params) { free(params); }

static const char *chosen(const char *wanted) {
  static const char *known[] = { "file", "san", "hotadd", "nbdssl", "nbd" };
  char there[256], list[256], *rest = list, *mode;
  snprintf(there, sizeof there, ":%s:", VixDiskLib_ListTransportModes());
  snprintf(list, sizeof list, "%s", wanted && *wanted ? wanted : "file:san:hotadd:nbdssl:nbd");
  while ((mode = strsep(&rest, ":"))) {
    char key[64];
    snprintf(key, sizeof key, ":%s:", mode);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
      if (!strcmp(known[i], mode) && strstr(there, key)) return known[i];
  }
  return NULL;
}

API VixError VixDiskLib_ConnectEx(const VixConnectParams *p, char readOnly, const char *snapshot,
                                  const char *transports, VixConnection **connection) {
  if (!p || !p->serverName || !p->vmxSpec) return VIX_E_INVALID_ARG; /* remote disks only */
  const char *mode = chosen(transports);
  if (!mode) return VIX_E_TRANSPORT;
  VixConnection *c = calloc(1, sizeof *c);
  c->p = *p;
  c->p.vmxSpec = copy(p->vmxSpec);
  c->p.serverName = copy(p->serverName);
  c->p.thumbPrint = copy(p->thumbPrint);
  c->read_only = readOnly;
  c->snapshot = copy(snapshot);
  c->mode = mode;
  *connection = c;
  return VIX_OK;
}

API VixError VixDiskLib_Disconnect(VixConnection *c) {
  free(c->p.vmxSpec);
  free(c->p.serverName);
  free(c->p.thumbPrint);
  free(c->snapshot);
  free(c);
  return VIX_OK;
}

static VixError refused(int status, const char *why) {
  switch (status) {
  case NOT_TRUSTED: return VIX_E_FAIL;
  case NO_CONNECTION: return VIX_E_HOST_CONNECTION;
  case 401: return VIX_E_HOST_USER_PERMISSIONS;
  case 409:
    return strstr(why, "locked") ? VIX_E_FILE_ALREADY_LOCKED
         : strstr(why, "not found") ? VIX_E_FILE_NOT_FOUND : VIX_E_FILE_ACCESS_ERROR;
  default: return VIX_E_FILE_ACCESS_ERROR;
  }
}

API VixError VixDiskLib_Open(VixConnection *c, const char *path, uint32_t flags, VixDisk **disk) {
  char query[8192], vm[512], snapshot[512], file[3072], answer[8192], local[4096] = "";
  int read_only = c->read_only || (flags & 4);
  unsigned long long size = 0;
  escaped(vm, c->p.vmxSpec);
  escaped(snapshot, c->snapshot);
  escaped(file, path);
  snprintf(query, sizeof query, "/_bed/vddk-open?vm=%s&snapshot=%s&file=%s&rw=%d&pid=%d&mode=%s"
           "&buffer=%u", vm, snapshot, file, !read_only, (int)getpid(), c->mode, BUFFER);
  int status = ask(&c->p, query, answer, sizeof answer);
  if (status != 200) {
    say(status == NOT_TRUSTED ? log_fn : warn_fn, "VixDiskLib: VixDiskLib_OpenEx: Cannot open disk"
        " %s. %s\n", path, status > 0 ? answer : "Error 1 (Unknown error)");
    return refused(status, answer);
  }
  VixDisk *d = calloc(1, sizeof *d);
  sscanf(answer, "%31s %llu %4095[^\n]", d->lease, &size, local);
  d->c = c;
  d->read_only = read_only;
  d->size = size;
  d->fd = open(local, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
  if (d->fd < 0) { free(d); return VIX_E_FILE_NOT_FOUND; }
  say(log_fn, "VixDiskLib: opened %s by %s\n", path, c->mode);
  *disk = d;
  return VIX_OK;
}

API const char *VixDiskLib_GetTransportMode(VixDisk *d) { return d->c->mode; }

API VixError VixDiskLib_Close(VixDisk *d) {
  char query[512], answer[1024];
  snprintf(query, sizeof query, "/_bed/vddk-close?id=%s&requests=%llu&read=%llu&written=%llu"
           "&largest=%llu", d->lease, (unsigned long long)d->requests, (unsigned long long)d->read,
           (unsigned long long)d->written, (unsigned long long)d->largest);
  ask(&d->c->p, query, answer, sizeof answer);
  close(d->fd);
  free(d);
  return VIX_OK;
}

API VixError VixDiskLib_GetInfo(VixDisk *d, VixInfo **info) {
  *info = calloc(1, sizeof **info);
  (*info)->capacity = d->size / SECTOR;
  (*info)->adapterType = 3;
  (*info)->numLinks = 1;
  (*info)->logicalSectorSize = (*info)->physicalSectorSize = SECTOR;
  return VIX_OK;
}

API void VixDiskLib_FreeInfo(VixInfo *info) { free(info); }

static VixError allowed(VixDisk *d, uint64_t offset, uint64_t length) {
  const char *limit = getenv("HS_VDDK_LARGEST");
  if (offset + length > d->size) return VIX_E_INVALID_ARG;
  if (!strncmp(d->c->mode, "nbd", 3) && length > (limit ? strtoull(limit, NULL, 0) : 64u << 20)) {
    say(warn_fn, "[NFC ERROR] NfcFssrvrProcessErrorMsg: received NFC error 5 from server: Failed to"
        " allocate the requested %llu bytes\n", (unsigned long long)length + 24);
    return VIX_E_FAIL;
  }
  d->requests++;
  if (length > d->largest) d->largest = length;
  return VIX_OK;
}

API VixError VixDiskLib_Read(VixDisk *d, uint64_t start, uint64_t sectors, unsigned char *buffer) {
  uint64_t offset = start * SECTOR, length = sectors * SECTOR, done = 0;
  VixError error = allowed(d, offset, length);
  while (!error && done < length) {
    ssize_t n = pread(d->fd, buffer + done, length - done, offset + done);
    if (n < 0) return VIX_E_FAIL;
    if (!n) { memset(buffer + done, 0, length - done); break; }
    done += n;
  }
  d->read += error ? 0 : length;
  return error;
}

API VixError VixDiskLib_Write(VixDisk *d, uint64_t start, uint64_t sectors,
                              const unsigned char *buffer) {
  uint64_t offset = start * SECTOR, length = sectors * SECTOR, done = 0;
  if (d->read_only) return VIX_E_FILE_ACCESS_ERROR;
  VixError error = allowed(d, offset, length);
  while (!error && done < length) {
    ssize_t n = pwrite(d->fd, buffer + done, length - done, offset + done);
    if (n < 0) return VIX_E_FAIL;
    done += n;
  }
  d->written += error ? 0 : length;
  return error;
}

API VixError VixDiskLib_ReadAsync(VixDisk *d, uint64_t start, uint64_t sectors,
                                  unsigned char *buffer, VixDone done, void *data) {
  done(data, VixDiskLib_Read(d, start, sectors, buffer));
  return VIX_ASYNC;
}

API VixError VixDiskLib_WriteAsync(VixDisk *d, uint64_t start, uint64_t sectors,
                                   const unsigned char *buffer, VixDone done, void *data) {
  done(data, VixDiskLib_Write(d, start, sectors, buffer));
  return VIX_ASYNC;
}

API VixError VixDiskLib_Flush(VixDisk *d) {
  return d->read_only || !fdatasync(d->fd) ? VIX_OK : VIX_E_FAIL;
}

API VixError VixDiskLib_Wait(VixDisk *d) { return VIX_OK; }

API VixError VixDiskLib_Create(VixConnection *c, const char *path, const void *params,
                               void *progress, void *data) {
  return VIX_E_NOT_SUPPORTED; /* as on a remote host */
}

API VixError VixDiskLib_QueryAllocatedBlocks(VixDisk *d, uint64_t start, uint64_t sectors,
                                             uint64_t chunk, VixBlockList **list) {
  if (chunk < MIN_CHUNK || chunk & (chunk - 1) || start % chunk || sectors / chunk > 512 * 1024)
    return VIX_E_INVALID_ARG;
  uint64_t step = chunk * SECTOR, end = (start + sectors) * SECTOR, room = 64;
  VixBlockList *l = malloc(sizeof *l + room * sizeof(VixBlock));
  l->numBlocks = 0;
  if (end > d->size) end = d->size;
  for (uint64_t at = start * SECTOR; at < end;) {
    off_t data = lseek(d->fd, at, SEEK_DATA);
    if (data < 0 || (uint64_t)data >= end) break;
    off_t hole = lseek(d->fd, data, SEEK_HOLE);
    uint64_t from = data / step * step, to = (hole + step - 1) / step * step;
    if (to > end) to = end;
    VixBlock *last = l->numBlocks ? &l->blocks[l->numBlocks - 1] : NULL;
    if (last && (last->offset + last->length) * SECTOR >= from) {
      last->length = to / SECTOR - last->offset;
    } else {
      if (l->numBlocks == room) l = realloc(l, sizeof *l + (room *= 2) * sizeof(VixBlock));
      l->blocks[l->numBlocks++] = (VixBlock){ from / SECTOR, (to - from) / SECTOR };
    }
    at = to;
  }
  *list = l;
  return VIX_OK;
}

API VixError VixDiskLib_FreeBlockList(VixBlockList *list) { free(list); return VIX_OK; }
