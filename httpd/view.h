/* SPDX-License-Identifier: MIT */
/* A page around a file ("?view"): text that scrolls as it is written, a player for media. */
#ifndef HTTPD_VIEW_H
#define HTTPD_VIEW_H

#include "httpd/mime.h"
#include "httpd/request.h"

bool view_is_asked(const struct request *rq);
/* "?live": the file itself, and while it grows no range of it. */
bool view_is_live(const struct request *rq);
enum MHD_Result view_answer(struct request *rq);

/* What a page can do with a file of this name. One without extension is taken for text. */
enum view_kind { VIEW_NONE, VIEW_TEXT, VIEW_AUDIO, VIEW_VIDEO };
enum view_kind view_kind_of(const struct mime *mime, const char *name);

#endif
