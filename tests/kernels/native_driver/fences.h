/* Buffers of exactly the size that a job may touch.
 *
 * Three places: the heap, which AddressSanitizer watches; pages that end at a page without access;
 * and pages that begin behind one. The processor itself faults there, so vector loads under a mask,
 * which AddressSanitizer does not see, and processors without the sanitizer are covered as well.
 */
#ifndef FENCES_H
#define FENCES_H

#include <stddef.h>

enum { HEAP, END, START };

/* Where the buffers of the next jobs lie. */
void lay_buffers(int place);

/* The buffer of this name is handed out one word too short; null: none. */
void shorten(const char *name);

/* A copy of so many bytes, a multiple of 4, that ends (or begins) at the fence. */
void *placed(const char *name, const void *from, size_t bytes);

/* The bytes that `placed` copied of these. */
size_t placed_bytes(const char *name, size_t bytes);

/* Give back all buffers. */
void release(void);

#endif
