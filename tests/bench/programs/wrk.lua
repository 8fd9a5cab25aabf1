-- SPDX-License-Identifier: MIT
-- wrk's summary as numbers: requests, bytes, microseconds, failures.
function done(summary, latency, requests)
	local e = summary.errors
	io.write(string.format("figures %d %d %d %d\n", summary.requests, summary.bytes,
		summary.duration, e.connect + e.read + e.write + e.status))
end
