/* SPDX-License-Identifier: MIT */
/* Any Range header, any file: every part lies within the file, a held byte is not there yet. */
#include "httpd/range.h"

#include "httpd_input.h"

static void complete(const struct range_set *set, uint64_t size)
{
	struct range_parts parts;

	if (range_of_complete(set, size, &parts) != RANGE_PARTS)
		return;
	REQUIRE(parts.count && parts.count <= RANGE_MAX);
	for (size_t i = 0; i < parts.count; i++)
		REQUIRE(parts.part[i].first <= parts.part[i].last && parts.part[i].last < size);
}

static void growing(const struct range_set *set, const struct range_growing *file)
{
	struct range r = {0};

	switch (range_of_growing(set, file, &r)) {
	case PLAN_PART:
		REQUIRE(r.first <= r.last && r.last < (file->declared ? file->size : file->edge));
		break;
	case PLAN_OPEN:
		REQUIRE(!file->declared && r.first < file->edge && r.first <= r.last);
		break;
	case PLAN_HOLD:
		REQUIRE(!file->declared && !file->aborted && r.last >= file->edge);
		break;
	case PLAN_CUT:
		REQUIRE(file->aborted && r.first < file->edge && r.first <= r.last);
		break;
	default:
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t sizes[2] = {0};
	struct range_set set;
	char *text;

	if (size < sizeof(sizes))
		return 0;
	memcpy(sizes, data, sizeof(sizes));
	text = input_string(data + sizeof(sizes), size - sizeof(sizes));
	if (range_parse(text, &set)) {
		struct range_growing file = {.edge = sizes[0], .size = sizes[1]};

		complete(&set, sizes[0]);
		for (int i = 0; i < 4; i++) {
			file.declared = i & 1;
			file.aborted = i & 2;
			if (!file.declared || file.edge <= file.size)
				growing(&set, &file);
		}
	}
	free(text);
	return 0;
}
