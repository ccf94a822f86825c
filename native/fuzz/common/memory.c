/* Files in memory. */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64

#include "memory.h"

#include <errno.h>

pw_fuzz_file pw_fuzz_files[2];
unsigned pw_fuzz_fail_at;

ssize_t pw_fuzz_pread(int file, void *to, size_t size, off_t offset) {
  if (pw_fuzz_fail_at && --pw_fuzz_fail_at == 0) {
    pw_fuzz_fail_at = 1;
    errno = EIO;
    return -1;
  }
  if (file < 0 || file > 1) {
    errno = EBADF;
    return -1;
  }
  HOLDS(offset >= 0);
  const pw_fuzz_file *from = pw_fuzz_files + file;
  if ((uint64_t)offset >= from->size) {
    return 0;
  }
  size_t there = from->size - (size_t)offset;
  size = size < there ? size : there;
  memcpy(to, from->data + offset, size);
  return (ssize_t)size;
}
