# Run by cases/perl.py; every line it prints is computed a second time over there.
use strict;
use threads;
use Digest::SHA qw(sha256_hex);
$| = 1;
my $go = <STDIN>; # held back until the preload has been seen in us

my %table;
$table{"k" . ($_ * 31 % 9973)} += $_ for 0 .. 199999;
print "hash ", sha256_hex(join "", map {"$_:$table{$_},"} sort keys %table), "\n";

my $text = join " ", map {"w" . ($_ % 97) . "-" . ($_ * $_ % 1009)} 0 .. 59999;
$text =~ s/w(\d+)-(\d+)/"$2<" . ($1 + 1) . ">"/ge;
print "regex ", sha256_hex($text), "\n";

my @answers;
for my $n (0 .. 19) {
    pipe(my $r, my $w) or die "pipe: $!";
    my $pid = fork;
    die "fork: $!" unless defined $pid;
    if (!$pid) {
        %table = map {$_ => $_ * $n} 0 .. 9999;
        my $sum = 0;
        $sum += $_ for values %table;
        print $w "$n:$sum";
        close $w;
        exit 0;
    }
    close $w;
    push @answers, [$pid, $r];
}
print "forks ", join(" ", map {my $line = readline $_->[1]; waitpid $_->[0], 0; die "child: $?" if $?; $line} @answers), "\n";

# Each thread is a copy of the whole interpreter, made by one thread and freed by another.
my @threads = map {
    my $n = $_;
    threads->create(sub {
        my %own = map {$_ => $_ * $n} 0 .. 19999;
        my $sum = 0;
        $sum += $_ for values %own;
        return $sum;
    })
} 1 .. 6;
print "threads ", join(" ", map {$_->join} @threads), "\n";
print "parent ", scalar(keys %table), "\n";

open my $out, "|-", "sort -n | awk 'NR % 8 == 1' | tee lines | wc -l > count" or die "sort: $!";
printf $out "%08d\n", $_ for reverse 0 .. 99999;
close $out or die "sort: $?";
open my $in, "<", "lines" or die "lines: $!";
my $lines = do {local $/; <$in>};
open my $count, "<", "count" or die "count: $!";
print "lines ", <$count> + 0, " ", sha256_hex($lines), "\n";
