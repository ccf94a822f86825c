/* Decoding a stored frame that may be anything. seeds: frame
**
** The first 3 bytes are the page size, the number of pages and how far zstd lies. The decoder is the system's
** libzstd.so.1; it may also be told to lie, since the module must not believe it. */
#include "common/memory.h"

#include <dlfcn.h>

static pw_zstd real;
static uint8_t lie;

static void *find(void *library, const char *name) {
  void *found = dlsym(library, name);
  HOLDS(found != NULL);
  return found;
}

static void load(void) {
  void *library = dlopen("libzstd.so.1", RTLD_NOW);
  if (library == NULL) {
    fprintf(stderr, "libzstd.so.1 is missing: apt-get install libzstd1\n");
    exit(1);
  }
  *(void **)(void *)&real.decompress = find(library, "ZSTD_decompress");
  *(void **)(void *)&real.frame_size = find(library, "ZSTD_findFrameCompressedSize");
  *(void **)(void *)&real.content_size = find(library, "ZSTD_getFrameContentSize");
  *(void **)(void *)&real.is_error = find(library, "ZSTD_isError");
}

static size_t decompress(void *context, void *to, size_t to_size, const void *from, size_t from_size) {
  (void)context;
  if (lie & 1) {
    memset(to, lie, to_size);
    return lie & 2 ? to_size : to_size - 1;
  }
  size_t (*plain)(void *, size_t, const void *, size_t);
  memcpy(&plain, &real.decompress, sizeof plain); /* ZSTD_decompress takes no context */
  return plain(to, to_size, from, from_size);
}

static size_t frame_size(const void *from, size_t from_size) { return lie & 4 ? from_size : real.frame_size(from, from_size); }

static unsigned long long content_size(const void *from, size_t from_size) {
  return lie & 8 ? 512u * (lie >> 4) : real.content_size(from, from_size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (real.is_error == NULL) {
    load();
  }
  if (size < 3) {
    return 0;
  }
  const uint32_t page_size = 512u << (data[0] % 9), count = data[1] % 8;
  lie = data[2];
  const pw_zstd zstd = {.decompress = decompress, .frame_size = frame_size, .content_size = content_size,
                        .is_error = real.is_error};
  uint8_t *frame = own(data + 3, size - 3), *to = malloc((size_t)page_size * count + 1), *sums = malloc(8u * count + 1);
  HOLDS(to != NULL && sums != NULL);
  pw_fault fault;
  pw_status status = pw_decompress(&zstd, NULL, frame, size - 3, page_size, 1, count, to, (size_t)page_size * count, sums,
                                   8u * count, &fault);
  HOLDS((int)status == fault.status);
  free(frame);
  free(to);
  free(sums);
  return 0;
}
