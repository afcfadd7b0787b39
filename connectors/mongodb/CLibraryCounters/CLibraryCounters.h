#pragma once

/* Nothing to call: to be part of the program is enough.

   As soon as it is loaded libmongoc makes a file of counters in shared memory, named after the
   process, and removes it when the process ends well. Weir has no use for it, may be killed, and
   is loaded together with libmongoc for pipelines without MongoDB too. So the name is removed as
   soon as it is there, and before, if an earlier process with the same number left it. */
