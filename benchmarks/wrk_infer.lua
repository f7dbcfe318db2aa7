-- Posts the request bodies of a file (one JSON document per line) in turn:
--   wrk -t1 -c16 -d20s -s benchmarks/wrk_infer.lua http://127.0.0.1:5000/infer -- BODIES
-- and prints one line of JSON at the end: seconds, answers by status, errors, and latencies in seconds.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  requests, statuses, position = {}, {}, 0
  for body in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, { ["Content-Type"] = "application/json" }, body)
  end
end

function request()
  position = position % #requests + 1
  return requests[position]
end

function response(status)
  local key = tostring(status)
  statuses[key] = (statuses[key] or 0) + 1
end

function done(summary, latency)
  local statuses = {}
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("statuses")) do
      statuses[status] = (statuses[status] or 0) + count
    end
  end
  local counts = {}
  for status, count in pairs(statuses) do
    counts[#counts + 1] = string.format('"%s": %d', status, count)
  end
  local errors = summary.errors
  print(string.format(
    '{"seconds": %f, "statuses": {%s}, "errors": %d, "p50": %f, "p99": %f}',
    summary.duration / 1e6, table.concat(counts, ", "),
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6
  ))
end
