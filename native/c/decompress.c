/* Copying in: decode one zstd frame that must hold exactly the expected pages, and take their sums.
**
** A hostile frame can cost no memory: decoding in one call into a buffer of the exact size needs no window of its own,
** whatever the frame's header claims. The header is judged first all the same, so that both backends refuse the same
** frames: a skippable or legacy frame, an unknown or other content size, an outsized window, bytes after the frame.
** Frame header: RFC 8878, section 3.1.1.1. */
#include "bytes.h"

#define ZSTD_MAGIC UINT32_C(0xFD2FB528)
#define WINDOW_FLOOR (UINT64_C(1) << 20) /* encoders may choose a window larger than a small content */

static int window_fits(const uint8_t *frame, size_t frame_size, uint64_t expected) {
  if (frame_size < 6 || pw_get_le32(frame) != ZSTD_MAGIC) {
    return 0;
  }
  if (frame[4] & 0x20) { /* single segment: the content is the window */
    return 1;
  }
  uint64_t base = UINT64_C(1) << (10 + (frame[5] >> 3));
  uint64_t window = base + base / 8 * (frame[5] & 7);
  return window <= (expected > WINDOW_FLOOR ? expected : WINDOW_FLOOR);
}

pw_status pw_decompress(const pw_zstd *zstd, void *context, const uint8_t *frame, size_t frame_size,
                        uint32_t page_size, uint32_t first, uint32_t count, uint8_t *to, size_t to_size,
                        uint8_t *sums, size_t sums_size, pw_fault *fault) {
  *fault = (pw_fault){0};
  if (!pw_page_size_valid(page_size) || count == 0 || !pw_holds(to_size, count, page_size)) {
    return pw_fail(fault, PW_ARGUMENT, 0, first, 0);
  }
  const size_t expected = (size_t)count * page_size;
  if (!window_fits(frame, frame_size, expected) || zstd->content_size(frame, frame_size) != expected) {
    return pw_fail(fault, PW_BAD_FRAME, 0, first, 0);
  }
  size_t whole = zstd->frame_size(frame, frame_size);
  if (zstd->is_error(whole) || whole != frame_size) {
    return pw_fail(fault, PW_BAD_FRAME, 0, first, 0);
  }
  size_t n = zstd->decompress(context, to, expected, frame, frame_size);
  if (zstd->is_error(n) || n != expected) {
    return pw_fail(fault, PW_BAD_FRAME, 0, first, 0);
  }
  return pw_buffer_sums(to, to_size, page_size, first, count, sums, sums_size, fault);
}
