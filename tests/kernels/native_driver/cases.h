/* Cases that every variant of this processor must pass; each returns how many were wrong. */
#ifndef CASES_H
#define CASES_H

#include <stddef.h>
#include <stdint.h>

int check_products(void);
int check_packing(void);
int check_refusals(void);

/* One product (outputs, kind of finish: see STYLES) or packing (channels, layout: 0 channels last, 1
 * first; 4 interleaves two maps). */
void run_one_product(int outputs, int finish, int variant);
void run_one_packing(int channels, int layout, int variant);

/* 32 random bits; -1 .. 1. */
uint32_t draw(void);
float uniform(void);

/* Memory of zeros, or the end of the program. */
void *zeroed(size_t bytes);

uint32_t bits_of(float x);
float float_of(uint32_t bits);

#endif
