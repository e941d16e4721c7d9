-- Tables, strings, closures and collection in Lua: a binary tree, a text, a queue. Run by
-- bench/driver/workloads.py; the results are the same on every run.
local function tree(depth)
  if depth == 0 then return {} end
  return { tree(depth - 1), tree(depth - 1) }
end

local function size(node)
  return node[1] and 1 + size(node[1]) + size(node[2]) or 1
end

local total = 0
for _ = 1, 12 do total = total + size(tree(13)) end
print("nodes", total)

local seed, words = 1, {}
for i = 1, 60000 do
  seed = (seed * 1103515245 + 12345) & 0x7fffffff
  local word = "word" .. (seed >> 8) % 7000
  words[word] = (words[word] or "") .. string.char(97 + i % 26)
end
local keys = {}
for word, text in pairs(words) do keys[#keys + 1] = word .. #text end
table.sort(keys)
print("words", #keys, keys[1], keys[#keys])

local queue, first, sum = {}, 1, 0
for i = 1, 150000 do
  queue[#queue + 1] = { number = i, text = tostring(i) }
  if i % 3 ~= 0 and queue[first] then
    sum = sum + #queue[first].text
    queue[first], first = false, first + 1
  end
end
print("queue", #queue - first + 1, sum)
