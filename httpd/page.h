/* SPDX-License-Identifier: MIT */
/* What all pages share: head, breadcrumb, state and size of a file, foot. Scripts and styles are
 * built in; a policy lets no others run. */
#ifndef HTTPD_PAGE_H
#define HTTPD_PAGE_H

#include <microhttpd.h>
#include <stdint.h>

#include "httpd/state.h"
#include "httpd/text.h"

enum page_script { PAGE_LISTING, PAGE_VIEW };

/* name: what is shown, below the root; its parts become links. */
void page_begin(struct text *t, const char *name);
void page_end(struct text *t, enum page_script script);

/* Takes the text of a whole page over. */
struct MHD_Response *page_response(struct text *t);

/* A name for people: apart from the text around it, control characters made visible. */
void page_name(struct text *t, const char *name);
/* name, percent-encoded. */
void page_url(struct text *t, const char *name);

/* Its state, and its size for people: "1.5 MiB of 3.0 MiB". */
void page_state(struct text *t, const struct progress *p);
void page_progress(struct text *t, const struct progress *p);

#endif
