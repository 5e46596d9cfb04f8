//! Commands of Redis 7 that hotwarm does not have, so that they are refused by name and not taken for a typing error.

/// Families and their commands, in lower case. A subcommand is spelled with a space.
const FAMILIES: &[(&str, &str)] = &[
    ("bitmaps", "bitcount bitfield bitfield_ro bitop bitpos getbit setbit"),
    ("clusters", "asking cluster migrate restore-asking"),
    (
        "geospatial indexes",
        "geoadd geodist geohash geopos georadius georadius_ro georadiusbymember georadiusbymember_ro geosearch \
         geosearchstore",
    ),
    (
        "hashes",
        "hdel hexists hget hgetall hincrby hincrbyfloat hkeys hlen hmget hmset hrandfield hscan hset hsetnx hstrlen \
         hvals hexpire hpexpire hexpireat hpexpireat httl hpttl hexpiretime hpexpiretime hpersist hgetdel hgetex hsetex",
    ),
    ("HyperLogLog", "pfadd pfcount pfdebug pfmerge pfselftest"),
    ("keys", "copy dump move object restore sort sort_ro swapdb waitaof"),
    (
        "lists",
        "blmove blmpop blpop brpop brpoplpush lindex linsert llen lmove lmpop lpop lpos lpush lpushx lrange lrem lset \
         ltrim rpop rpoplpush rpush rpushx",
    ),
    (
        "publish and subscribe",
        "psubscribe publish pubsub punsubscribe spublish ssubscribe subscribe sunsubscribe unsubscribe",
    ),
    ("scripts and functions", "eval eval_ro evalsha evalsha_ro fcall fcall_ro function script"),
    (
        "server",
        "acl bgrewriteaof bgsave debug failover lastsave latency lolwut memory module monitor psync replconf replicaof \
         save shutdown slaveof slowlog sync",
    ),
    (
        "sets",
        "sadd scard sdiff sdiffstore sinter sintercard sinterstore sismember smembers smismember smove spop \
         srandmember srem sscan sunion sunionstore",
    ),
    (
        "sorted sets",
        "bzmpop bzpopmax bzpopmin zadd zcard zcount zdiff zdiffstore zincrby zinter zintercard zinterstore zlexcount \
         zmpop zmscore zpopmax zpopmin zrandmember zrange zrangebylex zrangebyscore zrangestore zrank zrem \
         zremrangebylex zremrangebyrank zremrangebyscore zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan \
         zscore zunion zunionstore",
    ),
    (
        "streams",
        "xack xadd xautoclaim xclaim xdel xgroup xinfo xlen xpending xrange xread xreadgroup xrevrange xsetid xtrim",
    ),
    ("strings", "lcs"),
];

/// Subcommands of containers that hotwarm has, by container.
const SUBCOMMANDS: &[(&str, &str)] = &[
    ("client", "caching getredir kill pause reply tracking trackinginfo unblock unpause"),
    ("command", "getkeysandflags"),
    ("config", "rewrite"),
    (
        "sentinel",
        "ckquorum config debug failover flushconfig info-cache is-master-down-by-addr monitor myid pending-scripts remove \
         reset set simulate-failure",
    ),
];

/// The family of a Redis command that is missing here.
pub(crate) fn family(name: &[u8]) -> Option<&'static str> {
    FAMILIES.iter().find(|(_, names)| lists(names, name)).map(|(family, _)| *family)
}

/// Whether Redis has this subcommand of a container and hotwarm does not.
pub(crate) fn is_missing_subcommand(container: &str, name: &[u8]) -> bool {
    SUBCOMMANDS.iter().any(|(command, names)| *command == container && lists(names, name))
}

fn lists(names: &str, name: &[u8]) -> bool {
    names.split(' ').any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::table;

    #[test]
    fn no_command_is_both_supported_and_missing() {
        for (_, names) in FAMILIES {
            for name in names.split(' ') {
                assert!(table::lookup(name.as_bytes()).is_none(), "{name}");
            }
        }
        assert_eq!(family(b"XADD"), Some("streams"));
        assert_eq!(family(b"get"), None);
        assert!(is_missing_subcommand("client", b"Kill"));
    }
}
