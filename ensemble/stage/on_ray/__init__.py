"""The Ray stage: the same loop, in an actor; each instance of a player an actor too; the driver speaks to them.

wire.py      what travels between the actors, as bytes
plan.py      what an actor is made from
shard.py     the actor of a shard: the loop, its log, and what may be asked of it
instance.py  the actor of one instance of a player
crew.py      the instances of a section, as the loop of a shard sees them: it hands them batches
suspicion.py which events may have killed the instance that heard them
troupe.py    the same instances, as the shard that leads keeps them: it starts and ends them, for all shards
shelf.py     large frames of the log, put into the cluster's memory once for all sections
roster.py    what shards and leader tell each other of them
hiring.py    the crew that a loop hires from, and its way to the crews of the other shards
actors.py    the actors of instances, as Ray knows them
scaling.py   how many instances a section should have
turns.py     in which order publications are taken
line.py      how a process speaks to a shard's actor, and what a log and its state look like from afar
cluster.py   finding, starting and ending Ray
forkserver.py  where the workers of a Ray come from that we start
forking.py   the program that forks them
launch.py    who asks for one
precedence.py  who comes first where processors are short
stage.py     the stage that a band holds

Ray is imported inside functions only, so that nothing but playing on it needs it. Nothing is kept only in Ray: a plan and the
store are all that an actor needs to begin again.
"""
