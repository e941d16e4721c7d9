-- Run by cases/lua.py; every line it prints is computed a second time over there.
io.read() -- held back until the preload has been seen in us
collectgarbage("generational")

local keyed = {}
for i = 1, 300000 do
    local key = "k" .. (i * 37 % 20011)
    keyed[key] = (keyed[key] or 0) + i
end
local names = {}
for key in pairs(keyed) do names[#names + 1] = key end
table.sort(names)
local mixed = 0
for _, key in ipairs(names) do mixed = (mixed * 31 + keyed[key] + #key) % 1000000007 end
print("table " .. mixed)

local parts = {}
for i = 1, 20000 do parts[i] = i .. "=" .. (i * i % 1013) end
local swapped = table.concat(parts, " "):gsub("(%d+)=(%d+)", "%2:%1")
local rolling = 0
for i = 1, #swapped do rolling = (rolling * 131 + swapped:byte(i)) % 1000000007 end
print("gsub " .. #swapped .. " " .. rolling)

collectgarbage("incremental", 110, 1000)
local routines, sum = {}, 0
for n = 1, 500 do
    routines[n] = coroutine.wrap(function()
        for i = 1, 20 do
            local garbage = string.rep(tostring(n), i * 50)
            coroutine.yield(i * n, garbage)
        end
    end)
end
for _ = 1, 20 do
    for n = 1, 500 do sum = sum + routines[n]() end
end
print("coroutines " .. sum)

local function queens(row, columns, left, right)
    if row == 8 then return 1 end
    local found = 0
    for c = 0, 7 do
        if not (columns[c] or left[row + c] or right[row - c]) then
            local function with(set, key)
                local copy = {}
                for k in pairs(set) do copy[k] = true end
                copy[key] = true
                return copy
            end
            found = found + queens(row + 1, with(columns, c), with(left, row + c), with(right, row - c))
        end
    end
    return found
end
print("queens " .. queens(0, {}, {}, {}))

local weak = setmetatable({}, { __mode = "v" })
for i = 1, 10000 do weak[i] = { i } end
collectgarbage()
collectgarbage()
local alive = 0
for _ in pairs(weak) do alive = alive + 1 end
print("weak " .. alive)

local file = assert(io.popen("seq 1 5000 | sha256sum"))
local hash = file:read("a"):match("^%x+")
assert(file:close())
print("popen " .. hash)
