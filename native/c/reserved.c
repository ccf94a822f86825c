/* The checksums that SQLite's cksumvfs extension keeps in the last 8 bytes of each page.
** https://sqlite.org/cksumvfs.html; the sum itself is defined by ext/misc/cksumvfs.c in SQLite's source tree.
**
** Over the little-endian 32-bit words of the page but its last 8 bytes, in pairs: s1 += first + s2; s2 += second + s1.
** The page stores s1 and s2, little-endian. Page 1 is summed as any other; a page of zeros has the sum 0, and holds.
*/
#include "bytes.h"

static uint8_t page_holds(const uint8_t *page, uint32_t page_size) {
  const uint8_t *end = page + page_size - 8;
  uint32_t s1 = 0, s2 = 0;
  for (const uint8_t *at = page; at < end; at += 8) {
    s1 += pw_get_le32(at) + s2;
    s2 += pw_get_le32(at + 4) + s1;
  }
  return pw_get_le32(end) == s1 && pw_get_le32(end + 4) == s2;
}

pw_status pw_reserved_sums(const pw_source *source, uint32_t first, uint32_t count, uint8_t *buffer,
                           size_t buffer_size, uint8_t *holds, size_t holds_size, pw_fault *fault) {
  *fault = (pw_fault){0};
  if (!pw_page_size_valid(source->page_size) || buffer_size < source->page_size || holds_size < count) {
    return pw_fail(fault, PW_ARGUMENT, 0, first, 0);
  }
  const uint64_t fits = (uint64_t)buffer_size / source->page_size;
  uint32_t done = 0;
  while (done < count) {
    uint32_t some = count - done < fits ? count - done : (uint32_t)fits;
    if (first > UINT32_MAX - done) { /* any other overflow is refused by pw_read: it would be past the last page */
      return pw_fail(fault, PW_ARGUMENT, 0, first, 0);
    }
    pw_status status = pw_read(source, first + done, some, buffer, buffer_size, fault);
    if (status != PW_OK) {
      return status;
    }
    for (uint32_t i = 0; i < some; i++) {
      holds[done + i] = page_holds(buffer + (size_t)i * source->page_size, source->page_size);
    }
    done += some;
  }
  return PW_OK;
}
