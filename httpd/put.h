/* SPDX-License-Identifier: MIT */
/* PUT, DELETE and MKCOL. */
#ifndef HTTPD_PUT_H
#define HTTPD_PUT_H

#include "httpd/request.h"

enum MHD_Result put_begin(struct request *rq);
enum MHD_Result put_data(struct request *rq, const char *data, size_t *size);
enum MHD_Result put_answer(struct request *rq);
/* Whatever happened; an upload that is still there broke. */
void put_end(struct request *rq);

enum MHD_Result delete_answer(struct request *rq);
enum MHD_Result mkcol_answer(struct request *rq);

#endif
