/* SPDX-License-Identifier: MIT */
/* What all pages share: head, breadcrumb, foot. Scripts and styles are built in. */
#ifndef HTTPD_PAGE_H
#define HTTPD_PAGE_H

#include <stdint.h>

#include "httpd/text.h"

enum page_script { PAGE_LISTING, PAGE_FOLLOW, PAGE_STILL };

/* name: what is shown, below the root; its parts become links. */
void page_begin(struct text *t, const char *name);
void page_end(struct text *t, enum page_script script);

/* A size for people: "1.5 MiB". */
void page_size(struct text *t, uint64_t bytes);
/* name, percent-encoded. */
void page_url(struct text *t, const char *name);

#endif
