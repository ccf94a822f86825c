/* Copying out and in around a zstd whose every answer may be a lie. The real one is tried by the Python suite. */
#include <unistd.h>

#include "check.h"

#define SIZE 512u
#define FAILED ((size_t)-70)

/* A zstd for tests. Its frames: the magic, a header byte, a window byte, and the content as it is. */
static struct {
  size_t claim_frame;             /* frame_size answers this, if not 0 */
  unsigned long long claim_content;
  size_t compressed, decompressed; /* answers, if not 0 */
  int calls;
} lie;

static unsigned is_error(size_t code) { return code > (size_t)-120; }

static size_t compress(void *context, void *to, size_t to_size, const void *from, size_t from_size, int level) {
  (void)context;
  CHECK(level == 1);
  lie.calls++;
  if (lie.compressed) {
    return lie.compressed;
  }
  if (to_size < from_size + 6) {
    return FAILED;
  }
  memcpy(to, "\x28\xb5\x2f\xfd\x20\x00", 6);
  memcpy((uint8_t *)to + 6, from, from_size);
  return from_size + 6;
}

static size_t decompress(void *context, void *to, size_t to_size, const void *from, size_t from_size) {
  (void)context;
  lie.calls++;
  if (lie.decompressed) {
    return lie.decompressed;
  }
  CHECK(from_size >= 6 && from_size - 6 <= to_size);
  memcpy(to, (const uint8_t *)from + 6, from_size - 6);
  return from_size - 6;
}

static size_t frame_size(const void *from, size_t from_size) {
  (void)from;
  return lie.claim_frame ? lie.claim_frame : from_size;
}

static unsigned long long content_size(const void *from, size_t from_size) {
  (void)from;
  return lie.claim_content ? lie.claim_content : from_size - 6;
}

static const pw_zstd zstd = {compress, decompress, frame_size, content_size, is_error};

static pw_status back(const uint8_t *frame, size_t size, uint32_t count, uint8_t *to, uint8_t *sums) {
  pw_fault fault;
  return pw_decompress(&zstd, NULL, frame, size, SIZE, 3, count, to, (size_t)count * SIZE, sums, (size_t)count * 8,
                       &fault);
}

int main(void) {
  uint8_t *database = noise_bytes(8 * SIZE, 1);
  pw_source source = {.database = file_of(database, 8 * SIZE), .wal = -1, .page_size = SIZE, .pages = 8,
                      .file_size = 8 * SIZE};
  pw_fault fault;
  size_t used = 77;
  uint8_t *pages = noise_bytes(4 * SIZE, 2), *frame = noise_bytes(4 * SIZE + 6, 3), *again = noise_bytes(4 * SIZE, 4);
  uint8_t sums[32], sums_again[32];

  /* there and back */
  CHECK(pw_compress(&source, 3, 4, &zstd, NULL, 1, pages, 4 * SIZE, sums, 32, frame, 4 * SIZE + 6, &used, &fault) ==
        PW_OK);
  CHECK(used == 4 * SIZE + 6);
  CHECK(back(frame, used, 4, again, sums_again) == PW_OK);
  CHECK(memcmp(again, database + 2 * SIZE, 4 * SIZE) == 0 && memcmp(sums, sums_again, 32) == 0);
  CHECK(pw_get_le64(sums) == pw_xxh64(database + 2 * SIZE, SIZE, 3));

  /* bounds on the way out: nothing reaches zstd */
  lie.calls = 0;
  CHECK(pw_compress(&source, 3, 0, &zstd, NULL, 1, pages, 4 * SIZE, sums, 32, frame, 9, &used, &fault) == PW_ARGUMENT);
  CHECK(used == 0);
  CHECK(pw_compress(&source, 6, 4, &zstd, NULL, 1, pages, 4 * SIZE, sums, 32, frame, 9, &used, &fault) == PW_ARGUMENT);
  CHECK(pw_compress(&source, 3, 4, &zstd, NULL, 1, pages, 4 * SIZE - 1, sums, 32, frame, 9, &used, &fault) ==
        PW_ARGUMENT);
  CHECK(pw_compress(&source, 3, 4, &zstd, NULL, 1, pages, 4 * SIZE, sums, 31, frame, 9, &used, &fault) == PW_ARGUMENT);
  CHECK(lie.calls == 0);
  CHECK(pw_compress(&source, 3, 4, &zstd, NULL, 1, pages, 4 * SIZE, sums, 32, frame, 9, &used, &fault) == PW_COMPRESS);
  CHECK(used == 0 && fault.offset == FAILED);

  /* bounds on the way in */
  uint8_t whole[4 * SIZE + 6];
  memcpy(whole, "\x28\xb5\x2f\xfd\x20\x00", 6);
  memcpy(whole + 6, database, 4 * SIZE);
  CHECK(pw_decompress(&zstd, NULL, whole, sizeof whole, SIZE, 3, 4, again, 4 * SIZE - 1, sums, 32, &fault) ==
        PW_ARGUMENT);
  CHECK(pw_decompress(&zstd, NULL, whole, sizeof whole, SIZE, 3, 0, again, 4 * SIZE, sums, 32, &fault) == PW_ARGUMENT);
  CHECK(pw_decompress(&zstd, NULL, whole, sizeof whole, 500, 3, 4, again, 4 * SIZE, sums, 32, &fault) == PW_ARGUMENT);
  CHECK(pw_decompress(&zstd, NULL, whole, sizeof whole, SIZE, 3, UINT32_MAX, again, 4 * SIZE, sums, 32, &fault) ==
        PW_ARGUMENT);
  CHECK(pw_decompress(&zstd, NULL, whole, sizeof whole, SIZE, 0, 4, again, 4 * SIZE, sums, 32, &fault) == PW_ARGUMENT);
  CHECK(pw_decompress(&zstd, NULL, whole, sizeof whole, SIZE, 3, 4, again, 4 * SIZE, sums, 31, &fault) == PW_ARGUMENT);

  /* headers that are refused before zstd decodes anything */
  lie.calls = 0;
  for (size_t size = 0; size < 6; size++) {
    uint8_t *exact = malloc(size + 1);
    CHECK(exact != NULL);
    memcpy(exact, whole, size);
    CHECK(back(exact, size, 4, again, sums) == PW_BAD_FRAME);
    free(exact);
  }
  for (unsigned byte = 0; byte < 4; byte++) { /* wrong magic: skippable and legacy frames among them */
    whole[byte] ^= 0x10;
    CHECK(back(whole, sizeof whole, 4, again, sums) == PW_BAD_FRAME);
    whole[byte] ^= 0x10;
  }
  whole[4] = 0; /* not a single segment: the window byte counts */
  for (unsigned window = 0; window < 256; window++) {
    whole[5] = (uint8_t)window;
    lie.calls = 0;
    pw_status status = back(whole, sizeof whole, 4, again, sums);
    CHECK(status == (window <= 10 << 3 ? PW_OK : PW_BAD_FRAME) && lie.calls == (status == PW_OK));
  }
  whole[4] = 0x20;
  lie.calls = 0;
  lie.claim_content = 4 * SIZE + 1;
  CHECK(back(whole, sizeof whole, 4, again, sums) == PW_BAD_FRAME);
  lie.claim_content = (unsigned long long)-1; /* ZSTD_CONTENTSIZE_UNKNOWN */
  CHECK(back(whole, sizeof whole, 4, again, sums) == PW_BAD_FRAME);
  lie.claim_content = UINT64_C(1) << 60;
  CHECK(back(whole, sizeof whole, 4, again, sums) == PW_BAD_FRAME);
  lie.claim_content = 0;
  lie.claim_frame = sizeof whole - 1; /* bytes after the frame */
  CHECK(back(whole, sizeof whole, 4, again, sums) == PW_BAD_FRAME);
  lie.claim_frame = FAILED;
  CHECK(back(whole, sizeof whole, 4, again, sums) == PW_BAD_FRAME);
  lie.claim_frame = 0;
  CHECK(lie.calls == 0);

  /* what zstd decodes is not believed either */
  lie.decompressed = FAILED;
  CHECK(back(whole, sizeof whole, 4, again, sums) == PW_BAD_FRAME);
  lie.decompressed = 4 * SIZE - 1;
  CHECK(back(whole, sizeof whole, 4, again, sums) == PW_BAD_FRAME);

  close(source.database);
  free(database);
  free(pages);
  free(frame);
  free(again);
  return 0;
}
