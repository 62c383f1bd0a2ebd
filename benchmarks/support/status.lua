-- get_batch requests for wrk: each line of the file STATUS_REQUESTS is `path<TAB>secret<TAB>etag`.
local requests = {}
local next = 0

function init(args)
  for line in io.lines(os.getenv("STATUS_REQUESTS")) do
    local path, secret, etag = line:match("([^\t]*)\t([^\t]*)\t([^\t]*)")
    local headers = { Authorization = secret }
    if etag ~= "" then headers["If-None-Match"] = etag end
    requests[#requests + 1] = wrk.format("GET", path, headers)
  end
  math.randomseed(os.time())
  next = math.random(#requests)
end

function request()
  next = next % #requests + 1
  return requests[next]
end

function done(summary, latency, _)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format("RESULT %.3f %d %d %.3f %.3f\n", summary.duration / 1e6, summary.requests, failed,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
