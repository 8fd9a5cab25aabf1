/* SPDX-License-Identifier: MIT */
/* GET and HEAD. Called again whenever the request was held. */
#ifndef HTTPD_GET_H
#define HTTPD_GET_H

#include "httpd/request.h"

enum MHD_Result get_answer(struct request *rq);

#endif
